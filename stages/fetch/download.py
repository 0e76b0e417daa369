"""Bring the four files of a data set from the first mirror that has them whole."""

import hashlib
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError  # of the body, which requests hands through raw

from stages.errors import StudyError
from stages.fetch.datasets import SIZES
from stages.records import RAW_FILES

TIMEOUT = (10, 30)  # seconds to connect, seconds between two bytes
CHUNK = 1 << 16


def fetch_file(part: str, mirrors: Sequence[str], sha256: str) -> bytes:
    """The gzip bytes of one file, from the first mirror whose copy holds what it should.

    Args:
        part: a key of `RAW_FILES`, such as "train_images".
        mirrors: folders and HTTPS addresses, tried in order.
        sha256: of the decompressed content.

    Raises:
        StudyError: no mirror has it; the message lists what was tried and why each failed.
    """
    name, tried = RAW_FILES[part], []
    for mirror in mirrors:
        try:
            content = _read(mirror, name, limit=SIZES[part] + (1 << 20))
            check(content, size=SIZES[part], sha256=sha256)
            return content
        except (OSError, StudyError, HTTPError) as error:
            tried.append(f"  {mirror}: {_reason(error)}")
            if isinstance(error, StudyError):  # a damaged copy is worth a word even when the next mirror is sound
                tqdm.write(f"warning: {name} from {mirror} is not used: {error}")
    raise StudyError(
        f"no mirror has a sound {name}; tried\n" + "\n".join(tried) + "\n"
        "Put the file into a folder and set DATA_MIRROR to it, or run `make demo`, which needs no download."
    )


def mirrors_of(mirrors: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The mirrors to try: the folder or address in DATA_MIRROR first, when it is set."""
    own = environment.get("DATA_MIRROR")
    return [*([own] if own else []), *mirrors]


def check(content: bytes, *, size: int, sha256: str) -> None:
    """See that gzip `content` decompresses to `size` bytes with the digest `sha256`, and to no byte more.

    Raises:
        StudyError: it is not gzip, is cut short, inflates beyond `size`, or holds something else.
    """
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(content, size + 1)
    except zlib.error as error:
        raise StudyError(f"is not a sound gzip file ({error}); {len(content):,} bytes received") from error
    if len(plain) > size:
        raise StudyError(f"should hold {size:,} bytes, but inflates to more")
    if not inflate.eof:
        raise StudyError(f"is cut short: holds {len(plain):,} of {size:,} bytes")
    if inflate.unused_data:
        raise StudyError(f"goes on for {len(inflate.unused_data):,} bytes behind the end of the gzip file")
    found = hashlib.sha256(plain).hexdigest()
    if found != sha256:
        raise StudyError(f"has been changed: its SHA-256 should be {sha256}, found {found}")


def _read(mirror: str, name: str, limit: int) -> bytes:
    if "://" not in mirror:
        with (Path(mirror) / name).open("rb") as file:
            content = file.read(limit + 1)
    else:
        content = _download(f"{mirror.rstrip('/')}/{name}", limit)
    if len(content) > limit:
        raise StudyError(f"is larger than the {limit:,} bytes that it may have")
    return content


def _download(url: str, limit: int) -> bytes:
    with requests.get(url, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        expected = int(response.headers.get("Content-Length", 0)) or None
        buffer = io.BytesIO()
        with tqdm(total=expected, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[1], disable=None) as bar:
            # As sent: a file that the server labels `Content-Encoding: gzip` must not be unpacked on the way.
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                buffer.write(chunk)
                bar.update(len(chunk))
                if buffer.tell() > limit:
                    break
    return buffer.getvalue()


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
