"""The files of a zip or tar archive, read one after the other without unpacking them to the disk."""

import functools
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from many_seeds.errors import UserError

LIMIT = 1 << 36  # bytes of all files together, unpacked: 64 GiB
FILE_LIMIT = 1 << 28  # bytes of one file, unpacked: 256 MiB
HEADER_LIMIT = 1 << 20  # bytes of the extension of a tar header: long names, and the fields of pax
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# Files that operating systems leave in folders. Names that begin with a dot are ignored, too.
IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def contents_of(path: Path, source: str) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Name and content of every file in the archive at `path`, in its order; of a folder, None.

    Args:
        path: a zip file, or a tar file, which may be compressed.
        source: the name of the archive in errors.

    Raises:
        UserError: the file is not such an archive, or is damaged; a name leads out of it or occurs twice; it contains
            links; its unpacked size is over the limit.
    """
    seen: set[PurePosixPath] = set()
    unpacked = 0
    try:
        for name, size, content in _zip(path, source) if zipfile.is_zipfile(path) else _tar(path, source):
            unpacked += size
            if size > FILE_LIMIT or unpacked > LIMIT:
                raise UserError(f"{source}: with {name} its unpacked size is over the limit: {unpacked:,} bytes")
            place = _place(name, source)
            if _is_ignored(place):
                continue
            if content is not None and place in seen:
                raise UserError(f"{source} contains {place} twice: remove one")
            seen.add(place)
            yield place, None if content is None else content()
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        reason = str(error).partition("\n")[0]  # tarfile lists every compression that it has tried
        raise UserError(f"{source} should be a folder, or a valid zip or tar archive of one: {reason}") from error


def _is_ignored(place: PurePosixPath) -> bool:
    return not place.parts or any(part.startswith(".") or part in IGNORED for part in place.parts)


# Name, size in bytes, and a function that reads the content, None for a folder.
Member = tuple[str, int, Callable[[], bytes] | None]


def _zip(path: Path, source: str) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise UserError(f"{source}: {entry.filename} is a link: put the file itself into the archive")
            content = None if entry.is_dir() else functools.partial(archive.read, entry)
            yield entry.filename, entry.file_size, content


def _tar(path: Path, source: str) -> Iterator[Member]:
    with tarfile.open(path, tarinfo=_Entry) as archive:
        for entry in archive:
            if not entry.isreg() and not entry.isdir():
                raise UserError(f"{source}: {entry.name} is neither a file nor a folder: put files into the archive")
            yield entry.name, entry.size, None if entry.isdir() else functools.partial(_read, archive, entry)


class _Entry(tarfile.TarInfo):
    """A header of a tar archive, which is refused if it extends to more than `HEADER_LIMIT` bytes of names."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header of 512 bytes; tarfile then reads the extension that it announces into memory.

        Raises:
            RuntimeError: the extension is too large.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in EXTENSIONS and entry.size > HEADER_LIMIT:
            raise RuntimeError(f"a header has {entry.size:,} bytes, expected at most {HEADER_LIMIT:,}")
        return entry


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    with cast(IO[bytes], archive.extractfile(entry)) as file:
        return file.read()


def _place(name: str, source: str) -> PurePosixPath:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{source}: {name!r} leads out of the archive: pack it anew")
    if "\\" in name:
        raise UserError(f"{source}: {name!r} has a backslash, which some systems use as a path separator: rename it")
    return place
