"""Custom data: copied from own/ or downloaded from a URL, in the form that the split stage reads."""

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from many_seeds.errors import UserError
from stages.fetch.download import File, download, is_valid
from stages.study.data import OWN, is_address
from stages.study.files import written_whole
from stages.study.records.arrays import zip_entry

EXPERIMENT = "DVC_EXP_NAME"  # set in experiments; queued ones run in a folder without the files that git ignores
LIMIT = 1 << 36  # bytes of one download: 64 GiB


def fetch_custom(part: str, source: str, sha256: str | None, target: Path) -> None:
    """Copy or download one part of custom data.

    Args:
        part: its name in params.yaml, such as "train".
        source: a file or a folder below own/, or a URL.
        sha256: SHA-256 of the file, hexadecimal. None skips the check, for local files.
        target: the file to write; a folder is packed into an uncompressed zip archive.

    Raises:
        UserError: there is no such file or folder, or its SHA-256 is another one.
    """
    if not is_address(source):
        _check_links(Path(source))
    if Path(source).is_dir():
        if sha256 is not None:
            raise UserError(
                f"data.sha256.{part} should be the SHA-256 of a file, but {source} is a folder: remove that line"
            )
        pack(Path(source), target)
        return
    if not is_address(source) and not Path(source).exists():
        queued = f"; for a queued experiment, `dvc exp run --queue -C {source}`" if os.environ.get(EXPERIMENT) else ""
        raise UserError(f"{source}: no such file or folder: put it there, or fix data.{part} in params.yaml{queued}")
    file = File(source.rsplit("/", 1)[1], sha256, limit=LIMIT if is_address(source) else sys.maxsize)
    if not is_valid(file, target):
        download(file, [source], target, f"Fix data.{part} in params.yaml (or data.sha256.{part}).")


def pack(folder: Path, target: Path) -> None:
    """Pack a folder into a zip archive whose bytes depend on its files alone.

    Args:
        folder: the folder.
        target: the archive to write.

    Raises:
        UserError: the folder contains a link to a folder or an empty folder, whose changes DVC does not detect; an
            entry is not a file; or a name is not valid UTF-8.
    """
    paths = sorted(_entries(folder), key=lambda path: path.relative_to(folder).as_posix())
    with written_whole(target) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for path in tqdm(paths, desc=f"pack {folder}", unit="file", disable=None):
            name = path.relative_to(folder).as_posix()
            _check_name(name, folder)
            if path.is_dir():
                archive.writestr(zip_entry(f"{name}/", 0), b"")
            else:
                entry = zip_entry(name, path.stat().st_size)
                with path.open("rb") as file, archive.open(entry, "w") as member:
                    shutil.copyfileobj(file, member)


def _entries(folder: Path) -> Iterator[Path]:
    """The files and folders below a folder."""
    for parent, folders, files in os.walk(folder):
        # DVC would not notice that it is filled or removed, and fetch again.
        if not folders and not files and not _is_hidden(Path(parent).relative_to(folder)):
            raise UserError(f"the folder {parent} is empty: put images into it, or remove it")
        for name in folders:
            _check_links(Path(parent, name))
            yield Path(parent, name)
        for name in files:
            if not Path(parent, name).is_file():
                raise UserError(f"{Path(parent, name)} should be a file, or a link to one: remove it")
            yield Path(parent, name)


def _is_hidden(place: Path) -> bool:
    return any(part.startswith(".") for part in place.parts)


def _check_links(path: Path) -> None:
    for place in (path, *path.parents):
        if place.is_symlink() and place.is_dir():
            raise UserError(f"{place} is a link to a folder, whose changes DVC does not detect: copy it into {OWN}/")


def _check_name(name: str, folder: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{folder}: {os.fsencode(name)!r} should have a name in UTF-8: rename it") from None
