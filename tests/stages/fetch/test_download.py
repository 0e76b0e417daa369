import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

from many_seeds.errors import UserError
from stages.fetch import download as downloads
from stages.fetch.datasets import DATASETS, IDX_NAMES, Dataset
from stages.fetch.digits import digits_files
from stages.fetch.download import File, download, locations
from stages.fetch.stage import fetch
from stages.study.data import CONTENTS, Data, read_contents
from stages.study.paths import RAW

PLAIN = np.random.default_rng(0).integers(0, 10, 10_008, dtype=np.uint8).tobytes()
VALID = gzip.compress(PLAIN)
FILE = "labels.gz"
WANTED = File(FILE, hashlib.sha256(PLAIN).hexdigest(), limit=len(PLAIN), unpack=True)
NOT_PACKED = File("labels", WANTED.sha256, limit=len(PLAIN))

Answer = tuple[int, dict[str, str], bytes]


class Mirror:
    """An HTTP server on this machine.

    Attributes:
        url: its address.
        answers: path → status, headers and body.
        requested: the paths of all requests.
        supports_ranges: whether it answers requests for a part of a file.
        sent: the sizes of these parts, in bytes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.requested: list[str] = []
        self.supports_ranges = False
        self.sent: list[int] = []

    def hold(self, name: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[f"/{name}"] = (status, {"Content-Length": str(len(body)), **headers}, body)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            served.requested.append(self.path)
            status, headers, body = served.answers.get(self.path, (404, {"Content-Length": "0"}, b""))
            if served.supports_ranges and (start := int(self.headers.get("Range", "bytes=0-")[6:-1])):
                status = 206 if start < len(body) else 416
                headers, body = {"Content-Length": str(len(body[start:]))}, body[start:]
                served.sent.append(len(body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Mirror(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Makes a mirror that is a folder."""

    def make(name: str, content: bytes) -> str:
        path = tmp_path / name
        path.mkdir()
        (path / FILE).write_bytes(content)
        return str(path)

    return make


@pytest.fixture
def closed_address() -> str:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def fetch_labels(tmp_path: Path) -> Callable[[list[str]], bytes]:
    """Downloads the labels from the first of some mirrors and returns the content of the target."""

    def fetched(mirrors: list[str], file: File = WANTED) -> bytes:
        target = tmp_path / "raw" / file.kept_as
        download(file, locations(file.name, mirrors, {}), target, "Some advice.")
        assert os.listdir(target.parent) == [target.name]
        return target.read_bytes()

    return fetched


def test_a_folder_serves_a_file(fetch_labels: Callable[..., bytes], folder: Callable[[str, bytes], str]) -> None:
    assert fetch_labels([folder("good", VALID)]) == PLAIN


def test_a_server_serves_a_file(fetch_labels: Callable[..., bytes], mirror: Mirror) -> None:
    mirror.hold(FILE, VALID)
    assert fetch_labels([mirror.url]) == PLAIN


def test_a_file_that_a_server_labels_as_compressed_is_not_unpacked(
    fetch_labels: Callable[..., bytes], mirror: Mirror
) -> None:
    mirror.hold(FILE, VALID, Content_Encoding="gzip")
    assert fetch_labels([mirror.url]) == PLAIN


def test_mirrors_after_the_first_with_a_valid_copy_get_no_request(
    fetch_labels: Callable[..., bytes], mirror: Mirror, folder: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    mirror.hold(FILE, VALID)
    assert fetch_labels([str(tmp_path / "missing"), folder("good", VALID), mirror.url]) == PLAIN
    assert mirror.requested == []


def damaged_copies() -> list[tuple[str, bytes, str]]:
    flipped = bytearray(PLAIN)
    flipped[5000] ^= 1
    beyond = gzip.compress(bytes(50_000_000))
    return [
        ("truncated", VALID[:-100], "is truncated"),
        ("truncated in its checksum", VALID[:-4], "is truncated"),
        ("empty", b"", "is truncated: received 0 bytes"),
        ("tampered", gzip.compress(bytes(flipped)), f"is another file: its SHA-256 should be {WANTED.sha256}"),
        ("shortened", gzip.compress(PLAIN[:-1]), "is another file"),
        ("flipped in transit", VALID[:2000] + bytes([VALID[2000] ^ 1]) + VALID[2001:], "should be a valid gzip file"),
        ("no gzip", b"<html>log in to this network first</html>", "should be a valid gzip file"),
        ("inflating", beyond, f"should have at most {len(PLAIN):,} bytes unpacked, received more"),
        ("one byte too long", gzip.compress(PLAIN + b"\0"), "bytes unpacked, received more"),
        ("too large as it is", VALID + bytes(2 << 20), "should have at most"),
        ("two files in one", VALID + gzip.compress(b"more"), ""),
        ("followed by something else", VALID + b"<html>", ""),
    ]


@pytest.mark.parametrize(
    ("content", "expected"), [c[1:] for c in damaged_copies()], ids=[c[0] for c in damaged_copies()]
)
@pytest.mark.parametrize("kind", ["folder", "server"])
def test_the_error_for_a_damaged_copy_names_the_file_the_mirror_and_the_reason(
    fetch_labels: Callable[..., bytes],
    kind: str,
    content: bytes,
    expected: str,
    mirror: Mirror,
    folder: Callable[[str, bytes], str],
) -> None:
    mirror.hold(FILE, content)
    place = mirror.url if kind == "server" else folder("bad", content)
    with pytest.raises(UserError) as error:
        fetch_labels([place])
    message = str(error.value)
    assert f"no valid copy of {FILE} was found" in message
    [line] = [line for line in message.split("\n") if line.startswith(f"  {place.rstrip('/')}/{FILE}: ")]
    assert expected in line
    assert "Some advice." in message


def test_a_damaged_copy_is_skipped_with_a_warning(
    fetch_labels: Callable[..., bytes],
    mirror: Mirror,
    folder: Callable[[str, bytes], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror.hold(FILE, VALID)
    bad = folder("bad", VALID[:-100])
    assert fetch_labels([bad, mirror.url]) == PLAIN
    printed = capsys.readouterr()
    assert f"{FILE} from {bad}/{FILE} is not used: is truncated" in printed.out + printed.err


def test_after_an_interrupted_connection_the_next_mirror_is_used(
    fetch_labels: Callable[..., bytes], mirror: Mirror, folder: Callable[[str, bytes], str]
) -> None:
    mirror.answers[f"/{FILE}"] = (200, {"Content-Length": str(len(VALID))}, VALID[:-100])
    assert fetch_labels([mirror.url, folder("good", VALID)]) == PLAIN


def test_a_server_that_stops_sending_is_skipped(
    fetch_labels: Callable[..., bytes], folder: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.send_response(200)
            self.send_header("Content-Length", str(len(VALID)))
            self.end_headers()
            self.wfile.write(VALID[:100])
            enough.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(downloads, "TIMEOUT", (1, 0.1))
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert fetch_labels([f"http://127.0.0.1:{server.server_port}", folder("good", VALID)]) == PLAIN
        finally:
            enough.set()
            server.shutdown()
            thread.join()


def test_without_a_valid_copy_the_error_lists_all_locations(
    fetch_labels: Callable[..., bytes], mirror: Mirror, closed_address: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    mirror.hold("elsewhere", VALID)
    with pytest.raises(UserError) as error:
        fetch_labels([missing, closed_address, mirror.url])
    message = str(error.value)
    assert f"{missing}/{FILE}: no such file" in message
    assert f"{closed_address}/{FILE}: no connection" in message
    assert f"{mirror.url}{FILE}: HTTP status 404" in message


def test_requests_have_a_timeout(fetch_labels: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, timeout: tuple[float, float], **__: object) -> None:
        assert all(0 < seconds <= 60 for seconds in timeout)
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "get", never)
    with pytest.raises(UserError, match=rf"https://example\.org/mnist/{FILE}: timeout"):
        fetch_labels(["https://example.org/mnist"])


def test_the_mirror_in_the_environment_comes_first() -> None:
    assert locations("f", ["a/", "b"], {"DATA_MIRROR": "/own"}) == ["/own/f", "a/f", "b/f"]
    assert locations("f", ["a", "b"], {"DATA_MIRROR": ""}) == ["a/f", "b/f"]
    assert locations("f", ["a", "b"], {}) == ["a/f", "b/f"]


def test_a_file_may_be_kept_without_unpacking(fetch_labels: Callable[..., bytes], mirror: Mirror) -> None:
    mirror.hold("labels", PLAIN)
    assert fetch_labels([mirror.url], NOT_PACKED) == PLAIN


@pytest.mark.parametrize(("supports_ranges", "sent"), [(True, [len(PLAIN) - 4000]), (False, [])])
def test_an_interrupted_download_continues_where_it_stopped(
    supports_ranges: bool, sent: list[int], fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": str(len(PLAIN))}, PLAIN[:4000])
    with pytest.raises(UserError, match="the connection was interrupted"):
        fetch_labels([mirror.url], NOT_PACKED)
    [part] = (tmp_path / "raw").iterdir()
    assert part.stat().st_size == 4000
    mirror.hold("labels", PLAIN)
    mirror.supports_ranges = supports_ranges
    assert fetch_labels([mirror.url], NOT_PACKED) == PLAIN
    assert mirror.sent == sent


def test_a_complete_download_that_was_interrupted_starts_over(
    fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": "99999"}, PLAIN)
    with pytest.raises(UserError, match="the connection was interrupted"):
        fetch_labels([mirror.url], NOT_PACKED)
    mirror.hold("labels", PLAIN)
    mirror.supports_ranges = True
    assert fetch_labels([mirror.url], NOT_PACKED) == PLAIN


def test_the_data_of_another_file_are_continued_once_only(
    fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": str(len(PLAIN))}, bytes(4000))
    with pytest.raises(UserError, match="the connection was interrupted"):
        fetch_labels([mirror.url], NOT_PACKED)
    mirror.hold("labels", PLAIN)
    mirror.supports_ranges = True
    with pytest.raises(UserError, match="is another file"):
        fetch_labels([mirror.url], NOT_PACKED)
    assert fetch_labels([mirror.url], NOT_PACKED) == PLAIN


@pytest.fixture
def small_mnist(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small data set named mnist on `mirror`, as name → content. The current folder is empty."""
    contents = {IDX_NAMES[part]: content for part, content in digits_files().items()}
    files = {}
    for part, name in IDX_NAMES.items():
        mirror.hold(name, gzip.compress(contents[name]))
        files[part] = File(name, hashlib.sha256(contents[name]).hexdigest(), limit=len(contents[name]), unpack=True)
    dataset = Dataset("idx", tuple("0123456789"), files, mirrors=(str(tmp_path / "missing"), mirror.url))
    monkeypatch.setitem(DATASETS, "mnist", dataset)
    monkeypatch.chdir(tmp_path)
    return {name.removesuffix(".gz"): content for name, content in contents.items()}


MNIST = Data(name="mnist")
IMAGES = "t10k-images-idx3-ubyte"


def test_a_valid_file_is_downloaded_once_and_a_damaged_one_again(small_mnist: dict[str, bytes], mirror: Mirror) -> None:
    fetch(MNIST)
    assert {name: (RAW / name).read_bytes() for name in small_mnist} == small_mnist
    assert len(mirror.requested) == 4
    fetch(MNIST)
    assert len(mirror.requested) == 4
    (RAW / IMAGES).write_bytes(small_mnist[IMAGES][:-50])
    fetch(MNIST)
    assert mirror.requested[4:] == [f"/{IMAGES}.gz"]
    assert (RAW / IMAGES).read_bytes() == small_mnist[IMAGES]


def test_copies_that_another_zlib_compressed_leave_the_same_bytes(
    small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    for name, content in small_mnist.items():
        mirror.hold(f"{name}.gz", gzip.compress(content, compresslevel=1, mtime=1))
    fetch(MNIST)
    assert {name: (RAW / name).read_bytes() for name in small_mnist} == small_mnist


def test_with_the_mirror_in_the_environment_the_others_get_no_request(
    small_mnist: dict[str, bytes], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    for name, content in small_mnist.items():
        (tmp_path / "own" / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "own"))
    fetch(MNIST)
    assert mirror.requested == []
    assert (RAW / IMAGES).read_bytes() == small_mnist[IMAGES]


def test_valid_files_are_kept_after_a_failure_and_incomplete_ones_are_not(
    small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    fetch(Data(name="digits"))
    mirror.hold(f"{IMAGES}.gz", gzip.compress(small_mnist[IMAGES])[:-50])
    (RAW / IMAGES).unlink()
    with pytest.raises(UserError, match=r"DATA_MIRROR.*make demo"):
        fetch(MNIST)
    assert {file.name for file in RAW.iterdir()} == small_mnist.keys() - {IMAGES}
    assert not CONTENTS.exists(), "the files of two data sets must not be read as one"


def test_the_files_of_an_interrupted_fetch_and_of_another_data_set_are_deleted(
    small_mnist: dict[str, bytes],
) -> None:
    left = RAW / f".{IMAGES}.abcdef12"
    left.mkdir(parents=True)
    (left / IMAGES).write_bytes(b"incomplete")
    (RAW / "cifar-10-binary.tar.gz").write_bytes(b"")
    fetch(MNIST)
    assert {file.name for file in RAW.iterdir()} == {*small_mnist, CONTENTS.name}


def test_the_sources_of_data_raw_have_no_password(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC shares data/raw, which has the same bytes in every environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTHER_PASSWORD", "mine")
    mirror.hold("mine.npz", PLAIN)
    address = f"{mirror.url.replace('://', '://user:p%40ss@')}mine.npz"
    fetch(Data(name="mine", format="npz", train=address, sha256={"train": hashlib.sha256(PLAIN).hexdigest()}))
    assert (RAW / "train").read_bytes() == PLAIN
    assert read_contents().sources == {"train": f"{mirror.url.replace('://', '://***@')}mine.npz"}
