"""A running server of the champion, and requests to it."""

import base64
import contextlib
import http.client
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.study.results import read_results
from tools.serving import predict

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


def labels_at_once(server: Server, images: Sequence[bytes], *, clients: int, vote: bool) -> list[int | None]:
    """The served label of every image, asked for one by one by so many clients at once; None: not answered."""
    labels: list[int | None] = [None] * len(images)

    def client(first: int) -> None:
        with server.connect() as connection:
            for number in range(first, len(images), clients):
                status, answer = post(connection, invocation([images[number]], vote=vote))
                if status == http.HTTPStatus.OK:
                    labels[number] = answer["predictions"][0]["label"]

    threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return labels
