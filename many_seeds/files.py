"""Atomic writes: files and folders are written under a temporary name and renamed."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError


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
            if unfinished.is_dir() and path.is_dir():
                # A folder can't replace one that is not empty. A kill between the two renames loses the former one.
                path.rename(Path(scratch) / "replaced")
            unfinished.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror or error}. The former content is kept; fix the problem and run "
            "the same command again."
        ) from error


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
