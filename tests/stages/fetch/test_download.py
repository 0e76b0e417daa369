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
from stages.fetch import __main__ as stage
from stages.fetch import download
from stages.fetch.datasets import DATASETS, IDX_NAMES, Dataset
from stages.fetch.digits import digits_files
from stages.fetch.download import File, bring, places_of
from stages.study.data import CONTENTS, Data, read_contents
from stages.study.paths import RAW

PLAIN = np.random.default_rng(0).integers(0, 10, 10_008, dtype=np.uint8).tobytes()
SOUND = gzip.compress(PLAIN)
FILE = "labels.gz"
WANTED = File(FILE, hashlib.sha256(PLAIN).hexdigest(), limit=len(PLAIN), unpack=True)
AS_IT_IS = File("labels", WANTED.sha256, limit=len(PLAIN))

Answer = tuple[int, dict[str, str], bytes]


class Mirror:
    """An HTTP server on this machine; `answers` maps a path to (status, headers, body), `asked` lists the paths."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.goes_on = False  # answers requests for the rest of a file, and notes in `sent` how much that was
        self.sent: list[int] = []

    def hold(self, name: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[f"/{name}"] = (status, {"Content-Length": str(len(body)), **headers}, body)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            served.asked.append(self.path)
            status, headers, body = served.answers.get(self.path, (404, {"Content-Length": "0"}, b""))
            if served.goes_on and (start := int(self.headers.get("Range", "bytes=0-")[6:-1])):
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
    """Brings the labels from the first of some mirrors, and gives what lies at the target then."""

    def fetch(mirrors: list[str], file: File = WANTED) -> bytes:
        target = tmp_path / "raw" / file.kept_as
        bring(file, places_of(file.name, mirrors, {}), target, "Ask somebody.")
        assert os.listdir(target.parent) == [target.name]
        return target.read_bytes()

    return fetch


def test_a_folder_serves_a_file(fetch_labels: Callable[..., bytes], folder: Callable[[str, bytes], str]) -> None:
    assert fetch_labels([folder("own", SOUND)]) == PLAIN


def test_a_server_serves_a_file(fetch_labels: Callable[..., bytes], mirror: Mirror) -> None:
    mirror.hold(FILE, SOUND)
    assert fetch_labels([mirror.url]) == PLAIN


def test_a_file_that_a_server_labels_as_compressed_stays_as_it_is(
    fetch_labels: Callable[..., bytes], mirror: Mirror
) -> None:
    mirror.hold(FILE, SOUND, Content_Encoding="gzip")
    assert fetch_labels([mirror.url]) == PLAIN


def test_the_first_mirror_that_has_the_file_is_the_last_one_asked(
    fetch_labels: Callable[..., bytes], mirror: Mirror, folder: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    mirror.hold(FILE, SOUND)
    assert fetch_labels([str(tmp_path / "missing"), folder("own", SOUND), mirror.url]) == PLAIN
    assert mirror.asked == []


def damaged_copies() -> list[tuple[str, bytes, str]]:
    flipped = bytearray(PLAIN)
    flipped[5000] ^= 1
    beyond = gzip.compress(bytes(50_000_000))
    return [
        ("truncated", SOUND[:-100], "is cut short"),
        ("truncated in its checksum", SOUND[:-4], "is cut short"),
        ("empty", b"", "is cut short: 0 bytes received"),
        ("tampered", gzip.compress(bytes(flipped)), f"is another file: its SHA-256 should be {WANTED.sha256}"),
        ("shortened", gzip.compress(PLAIN[:-1]), "is another file"),
        ("flipped in transit", SOUND[:2000] + bytes([SOUND[2000] ^ 1]) + SOUND[2001:], "is not a sound gzip file"),
        ("no gzip", b"<html>log in to this network first</html>", "is not a sound gzip file"),
        ("inflating", beyond, f"should hold {len(PLAIN):,} bytes at most, but inflates to more"),
        ("one byte too long", gzip.compress(PLAIN + b"\0"), "inflates to more"),
        ("too large as it is", SOUND + bytes(2 << 20), "is larger than"),
        ("two files in one", SOUND + gzip.compress(b"more"), ""),
        ("followed by something else", SOUND + b"<html>", ""),
    ]


@pytest.mark.parametrize(("content", "said"), [c[1:] for c in damaged_copies()], ids=[c[0] for c in damaged_copies()])
@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_damaged_copy_is_refused_with_its_file_its_mirror_and_its_fault(
    fetch_labels: Callable[..., bytes],
    kind: str,
    content: bytes,
    said: str,
    mirror: Mirror,
    folder: Callable[[str, bytes], str],
) -> None:
    mirror.hold(FILE, content)
    place = mirror.url if kind == "server" else folder("bad", content)
    with pytest.raises(UserError) as error:
        fetch_labels([place])
    message = str(error.value)
    assert f"nowhere is a sound {FILE}" in message
    [line] = [line for line in message.split("\n") if line.startswith(f"  {place.rstrip('/')}/{FILE}: ")]
    assert said in line
    assert "Ask somebody." in message


def test_a_damaged_copy_is_passed_over_with_a_warning(
    fetch_labels: Callable[..., bytes],
    mirror: Mirror,
    folder: Callable[[str, bytes], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror.hold(FILE, SOUND)
    bad = folder("bad", SOUND[:-100])
    assert fetch_labels([bad, mirror.url]) == PLAIN
    said = capsys.readouterr()
    assert f"{FILE} from {bad}/{FILE} is not used: is cut short" in said.out + said.err


def test_a_connection_that_breaks_off_counts_as_a_damaged_copy(
    fetch_labels: Callable[..., bytes], mirror: Mirror, folder: Callable[[str, bytes], str]
) -> None:
    mirror.answers[f"/{FILE}"] = (200, {"Content-Length": str(len(SOUND))}, SOUND[:-100])
    assert fetch_labels([mirror.url, folder("own", SOUND)]) == PLAIN


def test_a_server_that_falls_silent_half_way_is_passed_over(
    fetch_labels: Callable[..., bytes], folder: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.send_response(200)
            self.send_header("Content-Length", str(len(SOUND)))
            self.end_headers()
            self.wfile.write(SOUND[:100])
            enough.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(download, "TIMEOUT", (1, 0.1))
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert fetch_labels([f"http://127.0.0.1:{server.server_port}", folder("own", SOUND)]) == PLAIN
        finally:
            enough.set()
            server.shutdown()
            thread.join()


def test_when_nothing_is_reachable_the_error_lists_all_that_was_tried(
    fetch_labels: Callable[..., bytes], mirror: Mirror, closed_address: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    mirror.hold("elsewhere", SOUND)
    with pytest.raises(UserError) as error:
        fetch_labels([missing, closed_address, mirror.url])
    message = str(error.value)
    assert f"{missing}/{FILE}: no such file" in message
    assert f"{closed_address}/{FILE}: can't be reached" in message
    assert f"{mirror.url}{FILE}: the server answered 404" in message


def test_a_server_is_given_up_after_a_time(fetch_labels: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, timeout: tuple[float, float], **__: object) -> None:
        assert all(0 < seconds <= 60 for seconds in timeout)
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "get", never)
    with pytest.raises(UserError, match=rf"https://example\.org/mnist/{FILE}: no answer in time"):
        fetch_labels(["https://example.org/mnist"])


def test_the_mirror_in_the_environment_comes_first() -> None:
    assert places_of("f", ["a/", "b"], {"DATA_MIRROR": "/own"}) == ["/own/f", "a/f", "b/f"]
    assert places_of("f", ["a", "b"], {"DATA_MIRROR": ""}) == ["a/f", "b/f"]
    assert places_of("f", ["a", "b"], {}) == ["a/f", "b/f"]


def test_a_file_may_be_kept_as_it_comes(fetch_labels: Callable[..., bytes], mirror: Mirror) -> None:
    mirror.hold("labels", PLAIN)
    assert fetch_labels([mirror.url], AS_IT_IS) == PLAIN


@pytest.mark.parametrize(("goes_on", "sent"), [(True, [len(PLAIN) - 4000]), (False, [])])
def test_a_download_that_broke_off_goes_on_where_it_was(
    goes_on: bool, sent: list[int], fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": str(len(PLAIN))}, PLAIN[:4000])
    with pytest.raises(UserError, match="the connection broke off"):
        fetch_labels([mirror.url], AS_IT_IS)
    [part] = (tmp_path / "raw").iterdir()
    assert part.stat().st_size == 4000
    mirror.hold("labels", PLAIN)
    mirror.goes_on = goes_on
    assert fetch_labels([mirror.url], AS_IT_IS) == PLAIN
    assert mirror.sent == sent


def test_a_download_that_was_killed_when_it_was_whole_is_fetched_anew(
    fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": "99999"}, PLAIN)
    with pytest.raises(UserError, match="the connection broke off"):
        fetch_labels([mirror.url], AS_IT_IS)
    mirror.hold("labels", PLAIN)
    mirror.goes_on = True
    assert fetch_labels([mirror.url], AS_IT_IS) == PLAIN


def test_the_beginning_of_another_file_is_not_gone_on_with_twice(
    fetch_labels: Callable[..., bytes], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["/labels"] = (200, {"Content-Length": str(len(PLAIN))}, bytes(4000))
    with pytest.raises(UserError, match="the connection broke off"):
        fetch_labels([mirror.url], AS_IT_IS)
    mirror.hold("labels", PLAIN)
    mirror.goes_on = True
    with pytest.raises(UserError, match="is another file"):
        fetch_labels([mirror.url], AS_IT_IS)
    assert fetch_labels([mirror.url], AS_IT_IS) == PLAIN


@pytest.fixture
def small_mnist(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A data set named mnist that is small and lies on `mirror`: name → content; the current folder is empty."""
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


def test_a_sound_file_is_fetched_once_and_a_damaged_one_anew(small_mnist: dict[str, bytes], mirror: Mirror) -> None:
    stage.fetch(MNIST)
    assert {name: (RAW / name).read_bytes() for name in small_mnist} == small_mnist
    assert len(mirror.asked) == 4
    stage.fetch(MNIST)
    assert len(mirror.asked) == 4
    (RAW / IMAGES).write_bytes(small_mnist[IMAGES][:-50])
    stage.fetch(MNIST)
    assert mirror.asked[4:] == [f"/{IMAGES}.gz"]
    assert (RAW / IMAGES).read_bytes() == small_mnist[IMAGES]


def test_copies_that_another_zlib_compressed_leave_the_same_bytes(
    small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    for name, content in small_mnist.items():
        mirror.hold(f"{name}.gz", gzip.compress(content, compresslevel=1, mtime=1))
    stage.fetch(MNIST)
    assert {name: (RAW / name).read_bytes() for name in small_mnist} == small_mnist


def test_the_mirror_in_the_environment_spares_the_others(
    small_mnist: dict[str, bytes], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    for name, content in small_mnist.items():
        (tmp_path / "own" / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "own"))
    stage.fetch(MNIST)
    assert mirror.asked == []
    assert (RAW / IMAGES).read_bytes() == small_mnist[IMAGES]


def test_files_that_were_fetched_before_a_failure_are_kept_and_nothing_half(
    small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    stage.fetch(Data(name="digits"))
    mirror.hold(f"{IMAGES}.gz", gzip.compress(small_mnist[IMAGES])[:-50])
    (RAW / IMAGES).unlink()
    with pytest.raises(UserError, match=r"DATA_MIRROR.*make demo"):
        stage.fetch(MNIST)
    assert {file.name for file in RAW.iterdir()} == small_mnist.keys() - {IMAGES}
    assert not CONTENTS.exists(), "nobody should take the files of two data sets for one"


def test_what_a_killed_fetch_and_another_data_set_left_behind_is_gone_after_the_next(
    small_mnist: dict[str, bytes],
) -> None:
    left = RAW / f".{IMAGES}.abcdef12"
    left.mkdir(parents=True)
    (left / IMAGES).write_bytes(b"half")
    (RAW / "cifar-10-binary.tar.gz").write_bytes(b"")
    stage.fetch(MNIST)
    assert {file.name for file in RAW.iterdir()} == {*small_mnist, CONTENTS.name}


def test_what_data_raw_says_of_its_origin_has_no_password(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC keeps data/raw and pushes it, in any environment with the same bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTHER_PASSWORD", "mine")
    mirror.hold("mine.npz", PLAIN)
    address = f"{mirror.url.replace('://', '://user:p%40ss@')}mine.npz"
    stage.fetch(Data(name="mine", format="npz", train=address, sha256={"train": hashlib.sha256(PLAIN).hexdigest()}))
    assert (RAW / "train").read_bytes() == PLAIN
    assert read_contents().sources == {"train": f"{mirror.url.replace('://', '://***@')}mine.npz"}
