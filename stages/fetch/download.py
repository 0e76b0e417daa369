"""Download a file from the first of several locations that has a valid copy."""

import contextlib
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError  # requests passes on those of a raw body

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from stages.study.data import is_address
from stages.study.files import written_whole

TIMEOUT = (10, 30)  # seconds to connect, and between two bytes
CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file to download.

    Attributes:
        name: its name on mirrors.
        sha256: SHA-256 of the file as it is kept, hexadecimal; None for custom data without a digest.
        limit: the maximum size of the file as it is kept, in bytes.
        unpack: whether mirrors have it as gzip and it is kept unpacked. Compressed copies of one content may differ.
    """

    name: str
    sha256: str | None
    limit: int
    unpack: bool = False

    @property
    def kept_as(self) -> str:
        """Its name in data/raw."""
        return self.name.removesuffix(".gz") if self.unpack else self.name


def download(file: File, sources: Sequence[str], target: Path, advice: str) -> None:
    """Download or copy a file from the first location that has a valid copy.

    The target is written atomically. The data of an interrupted download are kept in a file next to it, and the next
    download from the same URL continues from there.

    Args:
        file: the file.
        sources: paths and URLs of the file, tried in order.
        target: the file to write.
        advice: what to do if no location has it, for the error.

    Raises:
        UserError: no location has a valid copy; the message lists the locations with the reasons.
    """
    tried = []
    target.parent.mkdir(parents=True, exist_ok=True)
    for source in sources:
        try:
            with _copy(source, file, target) as copy:
                _keep(copy, file, target)
            for part in target.parent.glob(f".{target.name}.*.part"):
                part.unlink()
            return
        except (OSError, UserError, HTTPError) as error:
            tried.append(redact(f"  {source}: {_reason(error)}"))
            if isinstance(error, UserError):  # an invalid copy is reported even if the next one is valid
                tqdm.write(redact(f"warning: {file.name} from {source} is not used: {error}"))
    raise UserError(f"no valid copy of {redact(file.name)} was found; tried\n" + "\n".join(tried) + f"\n{advice}")


def locations(name: str, mirrors: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The paths and URLs of a file: in the folder or at the URL of DATA_MIRROR, if it is set, then on the mirrors.

    Args:
        name: the name of the file.
        mirrors: folders and URLs.
        environment: the environment variables.
    """
    preferred = environment.get("DATA_MIRROR")
    folders = [preferred, *mirrors] if preferred else mirrors
    return [f"{folder.rstrip('/')}/{name}" for folder in folders]


def is_valid(file: File, target: Path) -> bool:
    """Whether `target` is the file, by its digest. Without a digest the answer is False."""
    return file.sha256 is not None and target.is_file() and _sha256(target) == file.sha256


def unpacked(content: bytes, limit: int) -> bytes:
    """The content of a gzip file, decompressed.

    Args:
        content: the bytes of the file.
        limit: the maximum size of its content, in bytes.

    Raises:
        UserError: it is not a valid gzip file, is truncated, is larger than `limit` unpacked, or has data after its
            end.
    """
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(content, limit + 1)
    except zlib.error as error:
        raise UserError(f"should be a valid gzip file ({error}); received {len(content):,} bytes") from error
    if len(plain) > limit:
        raise UserError(f"should have at most {limit:,} bytes unpacked, received more")
    if not inflate.eof:
        raise UserError(f"is truncated: received {len(content):,} bytes, which unpack to {len(plain):,}")
    if inflate.unused_data:
        raise UserError(f"has {len(inflate.unused_data):,} bytes after the end of the gzip file")
    return plain


def _keep(copy: Path, file: File, target: Path) -> None:
    """Write the copy to `target`, unpacked and verified."""
    with written_whole(target) as unfinished:
        if file.unpack:
            unfinished.write_bytes(unpacked(copy.read_bytes(), file.limit))
        else:
            shutil.copyfile(copy, unfinished)
        found = _sha256(unfinished)
        if file.sha256 not in (None, found):
            raise UserError(f"is another file: its SHA-256 should be {file.sha256}, received {found}")


@contextlib.contextmanager
def _copy(source: str, file: File, target: Path) -> Iterator[Path]:
    """The path of a local copy of the file at `source`; that of a download is deleted if it turns out to be invalid."""
    limit = file.limit + CHUNK if file.unpack else file.limit  # gzip makes incompressible data slightly larger
    if not is_address(source):
        _check_size(Path(source).stat().st_size, limit)
        yield Path(source)
        return
    address = hashlib.sha256(source.encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{address}.part")
    try:
        _append(source, part, limit)
        yield part
    except UserError:
        part.unlink(missing_ok=True)
        raise


def _append(url: str, part: Path, limit: int) -> None:
    """Append to `part` the bytes that it lacks of the file at `url`.

    If the server does not support range requests, or its file is shorter, the download starts over.
    """
    have = part.stat().st_size if part.exists() else 0
    # A file that the server labels `Content-Encoding: gzip` must stay compressed, as its digest expects.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            return _append(url, part, limit)
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        length = int(response.headers.get("Content-Length", 0))
        with (
            part.open("ab" if have else "wb") as output,
            tqdm(
                total=have + length if length else None,
                initial=have,
                desc=redact(url.rsplit("/", 1)[1]),
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                output.write(chunk)
                bar.update(len(chunk))
                _check_size(output.tell(), limit)
    return None


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise UserError(f"should have at most {limit:,} bytes, received {size:,} or more")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "timeout"
    if isinstance(error, HTTPError):
        return "the connection was interrupted"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection"
    return str(error)
