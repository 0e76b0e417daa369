"""How fast the served champion answers, and whether it answers as evaluate did: `python -m benchmarks.serving`.

Serves what `python -m tools.serving.register` has registered. The clients share the machine with the server.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.process import processor_name
from many_seeds import console
from stages.study import files, paths
from stages.study.results import read_results
from stages.study.splits import read_images
from tools.serving import predict

OUTPUT = Path("benchmarks/SERVING.md")
SERVE = (sys.executable, "-m", "tools.serving.server", "--port", "0")  # on any port that is free
BATCH = 500  # images in one request, where every test image is asked for


@dataclass
class Server:
    """A running server, and what it has printed so far."""

    port: int = 0
    log: list[str] = field(default_factory=list)

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))


@contextlib.contextmanager
def serving(
    folder: Path, command: Sequence[str] = SERVE, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The registered champion of the study in `folder`, served until the block ends.

    Raises:
        RuntimeError: the server ended before it could answer; the message has what it printed.
    """
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        server = Server()
        # Read on: a full pipe would stop the server.
        reader = threading.Thread(target=server.log.extend, args=(process.stdout,))
        try:
            for line in process.stdout:
                server.log.append(line)
                if running := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                    server.port = int(running[1])
                    break
            else:
                raise RuntimeError("the server did not start:\n" + "".join(server.log))
            reader.start()
            yield server
        finally:
            process.terminate()
            if server.port:
                reader.join()


def invocation(images: Sequence[bytes], *, vote: bool = False) -> bytes:
    """The body of a request for the classes of image files."""
    data = [[base64.b64encode(image).decode()] for image in images]
    frame = {"columns": ["image"], "data": data}
    return json.dumps({"dataframe_split": frame, "params": {"vote": vote}}).encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, Any]:
    """Status and answer of one request."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def evaluated_labels() -> tuple[np.ndarray, np.ndarray]:
    """What evaluate found for the test images: labels uint8 [n] of the best seed, and of the vote."""
    champion = predict.read_champion()
    variant = champion["variant"]
    results = read_results(variant)
    return results.predicted[results.seeds.index(champion["seed"])], results.ensemble


def served_labels(server: Server, images: Sequence[bytes], *, vote: bool) -> np.ndarray:
    """The served label of every image, asked for in batches."""
    labels = []
    with server.connect() as connection:
        for start in range(0, len(images), BATCH):
            status, answer = post(connection, invocation(images[start : start + BATCH], vote=vote))
            if status != http.HTTPStatus.OK:
                raise RuntimeError(f"the server answered {status}: {answer}")
            labels += [row["label"] for row in answer["predictions"]]
    return np.array(labels)


@dataclass
class Load:
    """What clients saw that asked at once: seconds in all and of each answered request, and how many went wrong."""

    seconds: float
    latencies: list[float]
    lost: int
    wrong: int


def load(
    server: Server, images: Sequence[bytes], labels: np.ndarray, *, clients: int, requests: int, vote: bool
) -> Load:
    """Ask for single images from so many clients at once, each on a connection of its own that stays open."""
    bodies = [invocation([image], vote=vote) for image in images]
    latencies: list[float] = []
    wrong: list[int] = []

    def client(first: int) -> None:
        with server.connect() as connection:
            for number in range(first, requests, clients):
                started = time.perf_counter()
                try:
                    status, answer = post(connection, bodies[number % len(bodies)])
                except (OSError, http.client.HTTPException, ValueError):  # the last: no JSON
                    status = 0
                    connection.close()  # the next request connects anew
                if status != http.HTTPStatus.OK:
                    continue
                latencies.append(time.perf_counter() - started)
                if answer["predictions"][0]["label"] != labels[number % len(labels)]:
                    wrong.append(number)

    threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - started, latencies, requests - len(latencies), len(wrong))


def machine() -> str:
    """What the figures depend on."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("mlflow", "keras", "uvicorn"))
    return f"{os.cpu_count()} cores of {processor_name()}; Python {platform.python_version()}, {versions}"


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="for each number of clients (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once (default: 1 8 32)")
    arguments = parser.parse_args()
    images = [png(image) for image in read_images(paths.TEST)[0]]
    best, ensemble = evaluated_labels()
    rows, equal = [], []
    with serving(Path()) as server:
        for vote, labels, name in ((False, best, "best seed"), (True, ensemble, "vote")):
            same = int((served_labels(server, images, vote=vote) == labels).sum())
            equal.append(f"{name}: {same:,} of {len(images):,}")
            print(equal[-1], flush=True)
            for clients in arguments.clients:
                seen = load(server, images, labels, clients=clients, requests=arguments.requests, vote=vote)
                median, slow = np.percentile(seen.latencies, [50, 99]) * 1000
                rows.append(
                    f"| {name} | {clients} | {arguments.requests:,} | {len(seen.latencies) / seen.seconds:.0f} "
                    f"| {median:.1f} | {slow:.1f} | {seen.lost} | {seen.wrong} |"
                )
                print(rows[-1], flush=True)
    report = f"""\
# How fast is the served champion, and does it answer as evaluate did?

`python -m benchmarks.serving`, on {machine()}.

Clients and server share the machine. Each request asks for one test image on a connection that stays open; latency is
from sending to the parsed answer. Lost: not answered with 200. Wrong: another label than evaluate found.

| model | clients at once | requests | requests/s | median ms | 99 % within ms | lost | wrong |
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Every test image in batches of {BATCH}, labels equal to evaluate's: {"; ".join(equal)}.
"""
    files.write_bytes(OUTPUT, report.encode())


if __name__ == "__main__":
    main()
