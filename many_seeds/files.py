"""Atomic writes: files and folders are written under a temporary name and renamed."""

import contextlib
import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError

ATTEMPTS = 100  # to replace a folder that other processes replace, too


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` if the block ends without an error, and is removed otherwise.

    Raises:
        UserError: the path can't be written, as on a full disk or in a read-only folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            unfinished = Path(scratch) / path.name
            yield unfinished
            _replace(unfinished, path, Path(scratch))
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror or error}. The former content is kept; fix the problem and run "
            "the same command again"
        ) from error


def _replace(unfinished: Path, path: Path, scratch: Path) -> None:
    """Rename a file or folder to `path`; what was there is removed with `scratch`.

    A folder can't replace one that is not empty, so that one is renamed first. A kill between the two renames loses it.
    Another process that writes the same folder may put it back in between.
    """
    for attempt in range(ATTEMPTS):
        try:
            unfinished.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == ATTEMPTS - 1:
                raise
            with contextlib.suppress(FileNotFoundError):
                path.rename(scratch / f"replaced {attempt}")
        else:
            return


def write_bytes(path: Path, content: bytes) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files atomically, replacing the one that was there."""
    with written_whole(path) as unfinished:
        unfinished.mkdir()
        for name, content in files.items():
            (unfinished / name).write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
