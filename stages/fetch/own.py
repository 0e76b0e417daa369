"""A person's own data: copied from own/ or brought from an address, so that the split reads all data alike."""

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from many_seeds.errors import UserError
from stages.fetch.download import File, bring, is_kept
from stages.study.arrays import zip_entry
from stages.study.data import OWN, is_address
from stages.study.files import written_whole

LIMIT = 1 << 36  # bytes that come over the net at most: 64 GiB


def bring_own(part: str, source: str, sha256: str | None, target: Path) -> None:
    """Bring one part of a person's data to `target`.

    Args:
        part: its name in params.yaml, such as "train".
        source: a file or a folder below own/, or an address.
        sha256: of the file, hexadecimal; None: any file will do, where it lies on this machine.
        target: where to put it; a folder is packed into one zip file, uncompressed.

    Raises:
        UserError: there is no such file or folder, or it is another one than `sha256` says.
    """
    if not is_address(source):
        _check_links(Path(source))
    if Path(source).is_dir():
        if sha256 is not None:
            raise UserError(f"data.sha256.{part} is of a file, but {source} is a folder: remove that line")
        pack(Path(source), target)
        return
    if not is_address(source) and not Path(source).exists():
        raise UserError(f"{source}: no such file or folder: put it there, or fix data.{part} in params.yaml")
    file = File(source.rsplit("/", 1)[1], sha256, limit=LIMIT if is_address(source) else sys.maxsize)
    if not is_kept(file, target):
        bring(file, [source], target, f"Mend data.{part} in params.yaml (or data.sha256.{part}).")


def pack(folder: Path, target: Path) -> None:
    """Pack a folder into one zip file whose bytes depend on its files alone.

    Raises:
        UserError: a folder in it is a link, whose changes DVC would not see; something in it is no file, or has a name
            that is no text.
    """
    paths = sorted(_entries(folder), key=lambda path: path.relative_to(folder).as_posix())
    with written_whole(target) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for path in tqdm(paths, desc=f"pack {folder}", unit="file", disable=None):
            name = path.relative_to(folder).as_posix()
            _check_name(name, folder)
            if path.is_dir():
                archive.writestr(zip_entry(f"{name}/", 0), b"")
            else:
                content = path.read_bytes()
                archive.writestr(zip_entry(name, len(content)), content)


def _entries(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        for name in folders:
            _check_links(Path(at, name))
            yield Path(at, name)
        for name in files:
            if not Path(at, name).is_file():
                raise UserError(f"{Path(at, name)} is no file, or a link to none: remove it")
            yield Path(at, name)


def _check_links(path: Path) -> None:
    for place in (path, *path.parents):
        if place.is_symlink() and place.is_dir():
            raise UserError(f"{place} is a link to a folder, whose changes DVC does not see: copy it into {OWN}/")


def _check_name(name: str, folder: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{folder}: {os.fsencode(name)!r} should have a name in UTF-8: rename it") from None
