"""Bring a file from the first place that has it whole."""

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
from urllib3.exceptions import HTTPError, ReadTimeoutError  # of the body, which requests hands through raw

from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.study.data import is_address
from stages.study.files import written_whole

TIMEOUT = (10, 30)  # seconds to connect, seconds between two bytes
CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file that is wanted.

    Attributes:
        name: what mirrors call it.
        sha256: of the file as it is kept, hexadecimal; None for a person's own, which may be anything.
        limit: the bytes that it may have at most, as it is kept.
        unpack: mirrors hold it as gzip, and it is kept unpacked: compressed copies of one content differ.
    """

    name: str
    sha256: str | None
    limit: int
    unpack: bool = False

    @property
    def kept_as(self) -> str:
        return self.name.removesuffix(".gz") if self.unpack else self.name


def bring(file: File, places: Sequence[str], target: Path, advice: str) -> None:
    """Bring `file` to `target` from the first place whose copy is what it should be.

    Nothing is left at `target` unless it is whole. What a broken download brought lies beside it, and the next one from
    the same address goes on from there.

    Args:
        file: what is wanted.
        places: paths and addresses of the file itself, tried in order.
        target: where to put it.
        advice: what a person can do where no place has it.

    Raises:
        UserError: no place has it; the message lists what was tried and why each failed.
    """
    tried = []
    target.parent.mkdir(parents=True, exist_ok=True)
    for place in places:
        try:
            with _copy(place, file, target) as copy:
                _keep(copy, file, target)
            for part in target.parent.glob(f".{target.name}.*.part"):
                part.unlink()
            return
        except (OSError, UserError, HTTPError) as error:
            tried.append(redact(f"  {place}: {_reason(error)}"))
            if isinstance(error, UserError):  # a damaged copy is worth a word even when the next place is sound
                tqdm.write(redact(f"warning: {file.name} from {place} is not used: {error}"))
    raise UserError(f"nowhere is a sound {redact(file.name)}; tried\n" + "\n".join(tried) + f"\n{advice}")


def places_of(name: str, mirrors: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Where the file `name` may be: in the folder or at the address in DATA_MIRROR, if set, then the mirrors."""
    own = environment.get("DATA_MIRROR")
    return [f"{mirror.rstrip('/')}/{name}" for mirror in [*([own] if own else []), *mirrors]]


def is_kept(file: File, target: Path) -> bool:
    """Whether `target` is the file that is wanted; one without a digest never is known to be."""
    return file.sha256 is not None and target.is_file() and _sha256(target) == file.sha256


def unpacked(content: bytes, limit: int) -> bytes:
    """What gzip `content` holds.

    Raises:
        UserError: it is not gzip, is cut short, inflates beyond `limit` bytes, or goes on behind its end.
    """
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(content, limit + 1)
    except zlib.error as error:
        raise UserError(f"is not a sound gzip file ({error}); {len(content):,} bytes received") from error
    if len(plain) > limit:
        raise UserError(f"should hold {limit:,} bytes at most, but inflates to more")
    if not inflate.eof:
        raise UserError(f"is cut short: {len(content):,} bytes received, which hold {len(plain):,}")
    if inflate.unused_data:
        raise UserError(f"goes on for {len(inflate.unused_data):,} bytes behind the end of the gzip file")
    return plain


def _keep(copy: Path, file: File, target: Path) -> None:
    """Put the copy, unpacked and checked, into its place."""
    with written_whole(target) as unfinished:
        if file.unpack:
            unfinished.write_bytes(unpacked(copy.read_bytes(), file.limit))
        else:
            shutil.copyfile(copy, unfinished)
        found = _sha256(unfinished)
        if file.sha256 not in (None, found):
            raise UserError(f"is another file: its SHA-256 should be {file.sha256}, found {found}")


@contextlib.contextmanager
def _copy(place: str, file: File, target: Path) -> Iterator[Path]:
    """A copy on this machine of the file at `place`; of a download that is whole but wrong nothing is left."""
    most = file.limit + CHUNK if file.unpack else file.limit  # what can't be compressed grows a little
    if not is_address(place):
        _not_beyond(Path(place).stat().st_size, most)
        yield Path(place)
        return
    address = hashlib.sha256(place.encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{address}.part")
    try:
        _download(place, part, most)
        yield part
    except UserError:
        part.unlink(missing_ok=True)
        raise


def _download(url: str, part: Path, most: int) -> None:
    """Append to `part` what it lacks of the file at `url`.

    A server that can't go on from there, or whose file is shorter, sends it from the start.
    """
    have = part.stat().st_size if part.exists() else 0
    # As sent: a file that the server labels `Content-Encoding: gzip` must not be unpacked on the way.
    asked = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=asked) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            return _download(url, part, most)
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        length = int(response.headers.get("Content-Length", 0))
        with (
            part.open("ab" if have else "wb") as output,
            tqdm(
                total=have + length if length else None, initial=have, desc=redact(url.rsplit("/", 1)[1]),
                unit="B", unit_scale=True, disable=None,
            ) as bar,
        ):  # fmt: skip
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                output.write(chunk)
                bar.update(len(chunk))
                _not_beyond(output.tell(), most)
    return None


def _not_beyond(size: int, limit: int) -> None:
    if size > limit:
        raise UserError(f"is larger than the {limit:,} bytes that it may have")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, HTTPError):
        return "the connection broke off"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "can't be reached"
    return str(error)
