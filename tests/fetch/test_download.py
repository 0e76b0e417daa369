import functools
import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

from stages.errors import StudyError
from stages.fetch import __main__ as stage
from stages.fetch import download
from stages.fetch.datasets import DOWNLOADS, SIZES, Download
from stages.fetch.digits import digits_files
from stages.fetch.download import check, fetch_file, mirrors_of
from stages.records import RAW, RAW_FILES

PART, FILE = "test_labels", RAW_FILES["test_labels"]
PLAIN = np.random.default_rng(0).integers(0, 10, SIZES[PART], dtype=np.uint8).tobytes()
SOUND = gzip.compress(PLAIN)
SHA256 = hashlib.sha256(PLAIN).hexdigest()

Answer = tuple[int, dict[str, str], bytes]


class Mirror:
    """An HTTP server on this machine; `answers` maps a path to (status, headers, body), `asked` lists the paths."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    def hold(self, name: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[f"/{name}"] = (status, {"Content-Length": str(len(body)), **headers}, body)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            served.asked.append(self.path)
            status, headers, body = served.answers.get(self.path, (404, {"Content-Length": "0"}, b""))
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
def closed_address(mirror: Mirror) -> str:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


fetch_labels = functools.partial(fetch_file, PART, sha256=SHA256)


def test_a_folder_serves_a_file(folder: Callable[[str, bytes], str]) -> None:
    assert fetch_labels([folder("own", SOUND)]) == SOUND


def test_a_server_serves_a_file(mirror: Mirror) -> None:
    mirror.hold(FILE, SOUND)
    assert fetch_labels([mirror.url]) == SOUND


def test_a_file_that_a_server_labels_as_compressed_stays_as_it_is(mirror: Mirror) -> None:
    mirror.hold(FILE, SOUND, Content_Encoding="gzip")
    assert fetch_labels([mirror.url]) == SOUND


def test_the_first_mirror_that_has_the_file_is_the_last_one_asked(
    mirror: Mirror, folder: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    mirror.hold(FILE, SOUND)
    assert fetch_labels([str(tmp_path / "missing"), folder("own", SOUND), mirror.url]) == SOUND
    assert mirror.asked == []


def damaged_copies() -> list[tuple[str, bytes, str]]:
    flipped = bytearray(PLAIN)
    flipped[5000] ^= 1
    beyond = gzip.compress(bytes(50_000_000))
    return [
        ("truncated", SOUND[:-100], "is cut short"),
        ("truncated in its checksum", SOUND[:-4], "is cut short"),
        ("empty", b"", "is cut short: holds 0 of"),
        ("tampered", gzip.compress(bytes(flipped)), f"has been changed: its SHA-256 should be {SHA256}"),
        ("shortened", gzip.compress(PLAIN[:-1]), "has been changed"),
        ("flipped in transit", SOUND[:2000] + bytes([SOUND[2000] ^ 1]) + SOUND[2001:], "is not a sound gzip file"),
        ("no gzip", b"<html>log in to this network first</html>", "is not a sound gzip file"),
        ("inflating", beyond, f"should hold {SIZES[PART]:,} bytes, but inflates to more"),
        ("one byte too long", gzip.compress(PLAIN + b"\0"), "inflates to more"),
        ("too large as it is", SOUND + bytes(2 << 20), "is larger than"),
        ("two files in one", SOUND + gzip.compress(b"more"), ""),
        ("followed by something else", SOUND + b"<html>", ""),
    ]


@pytest.mark.parametrize(("content", "said"), [c[1:] for c in damaged_copies()], ids=[c[0] for c in damaged_copies()])
@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_damaged_copy_is_refused_with_its_file_its_mirror_and_its_fault(
    kind: str, content: bytes, said: str, mirror: Mirror, folder: Callable[[str, bytes], str]
) -> None:
    mirror.hold(FILE, content)
    place = mirror.url if kind == "server" else folder("bad", content)
    with pytest.raises(StudyError) as error:
        fetch_labels([place])
    message = str(error.value)
    assert f"no mirror has a sound {FILE}" in message
    [line] = [line for line in message.split("\n") if line.startswith(f"  {place}: ")]
    assert said in line
    assert "make demo" in message


def test_a_damaged_copy_is_passed_over_with_a_warning(
    mirror: Mirror, folder: Callable[[str, bytes], str], capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.hold(FILE, SOUND)
    bad = folder("bad", SOUND[:-100])
    assert fetch_labels([bad, mirror.url]) == SOUND
    said = capsys.readouterr()
    assert f"{FILE} from {bad} is not used: is cut short" in said.out + said.err


def test_a_connection_that_breaks_off_counts_as_a_damaged_copy(
    mirror: Mirror, folder: Callable[[str, bytes], str]
) -> None:
    mirror.answers[f"/{FILE}"] = (200, {"Content-Length": str(len(SOUND))}, SOUND[:-100])
    assert fetch_labels([mirror.url, folder("own", SOUND)]) == SOUND


def test_a_server_that_falls_silent_half_way_is_passed_over(
    folder: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
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
            assert fetch_labels([f"http://127.0.0.1:{server.server_port}", folder("own", SOUND)]) == SOUND
        finally:
            enough.set()
            server.shutdown()
            thread.join()


def test_when_nothing_is_reachable_the_error_lists_all_that_was_tried(
    mirror: Mirror, closed_address: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    mirror.hold("elsewhere", SOUND)
    with pytest.raises(StudyError) as error:
        fetch_labels([missing, closed_address, mirror.url])
    message = str(error.value)
    assert f"{missing}: no such file" in message
    assert f"{closed_address}: can't be reached" in message
    assert f"{mirror.url}: the server answered 404" in message
    assert "DATA_MIRROR" in message
    assert "make demo" in message


def test_a_server_is_given_up_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, timeout: tuple[float, float], **__: object) -> None:
        assert all(0 < seconds <= 60 for seconds in timeout)
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "get", never)
    with pytest.raises(StudyError, match=r"https://example\.org/mnist: no answer in time"):
        fetch_labels(["https://example.org/mnist"])


def test_the_mirror_in_the_environment_comes_first() -> None:
    assert mirrors_of(["a", "b"], {"DATA_MIRROR": "/own"}) == ["/own", "a", "b"]
    assert mirrors_of(["a", "b"], {"DATA_MIRROR": ""}) == ["a", "b"]
    assert mirrors_of(["a", "b"], {}) == ["a", "b"]


def test_check_accepts_what_it_should_hold() -> None:
    check(SOUND, size=len(PLAIN), sha256=SHA256)


@pytest.fixture
def small_mnist(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A data set named mnist that is small and lies on `mirror`; the current folder is empty."""
    files = digits_files()
    plain = {part: gzip.decompress(content) for part, content in files.items()}
    sha256 = {part: hashlib.sha256(content).hexdigest() for part, content in plain.items()}
    for part, content in plain.items():
        monkeypatch.setitem(SIZES, part, len(content))
        mirror.hold(RAW_FILES[part], files[part])
    monkeypatch.setitem(DOWNLOADS, "mnist", Download((str(tmp_path / "missing"), mirror.url), sha256))
    monkeypatch.chdir(tmp_path)
    return files


def test_a_sound_file_is_fetched_once_and_a_damaged_one_anew(small_mnist: dict[str, bytes], mirror: Mirror) -> None:
    stage.fetch("mnist")
    assert {part: (RAW / file).read_bytes() for part, file in RAW_FILES.items()} == small_mnist
    assert len(mirror.asked) == 4
    stage.fetch("mnist")
    assert len(mirror.asked) == 4
    damaged = RAW / RAW_FILES["test_images"]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    stage.fetch("mnist")
    assert mirror.asked[4:] == [f"/{RAW_FILES['test_images']}"]
    assert damaged.read_bytes() == small_mnist["test_images"]


def test_the_mirror_in_the_environment_spares_the_others(
    small_mnist: dict[str, bytes], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    for part, content in small_mnist.items():
        (tmp_path / "own" / RAW_FILES[part]).write_bytes(content)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "own"))
    stage.fetch("mnist")
    assert mirror.asked == []
    assert (RAW / RAW_FILES["train_images"]).read_bytes() == small_mnist["train_images"]


def test_files_that_were_fetched_before_a_failure_are_kept_and_nothing_half(
    small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    mirror.hold(RAW_FILES["test_images"], small_mnist["test_images"][:-50])
    with pytest.raises(StudyError, match=RAW_FILES["test_images"]):
        stage.fetch("mnist")
    assert sorted(file.name for file in RAW.iterdir()) == sorted([RAW_FILES["train_images"], RAW_FILES["train_labels"]])


def test_what_a_killed_fetch_left_behind_is_gone_after_the_next(small_mnist: dict[str, bytes]) -> None:
    left = RAW / f".{RAW_FILES['test_images']}.abcdef12"
    left.mkdir(parents=True)
    (left / RAW_FILES["test_images"]).write_bytes(b"half")
    stage.fetch("mnist")
    assert {file.name for file in RAW.iterdir()} == set(RAW_FILES.values())
