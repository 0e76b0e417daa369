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

from stages.study.records.results import read_results
from tools.serving import predict

SERVE = (sys.executable, "-m", "tools.serving.server", "--port", "0")  # on any free port
BATCH = 500  # images in one request


@dataclass
class Server:
    """A running server.

    Attributes:
        port: its port on 127.0.0.1.
        log: the lines that it has printed.
    """

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
        RuntimeError: the server did not start; the message has its output.
    """
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        server = Server()
        # A full pipe would block the server.
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


def invocation(images: Sequence[bytes], *, ensemble: bool = False) -> bytes:
    """The body of a request for the classes of image files."""
    data = [[base64.b64encode(image).decode()] for image in images]
    frame = {"columns": ["image"], "data": data}
    return json.dumps({"dataframe_split": frame, "params": {"vote": ensemble}}).encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, Any]:
    """The status and the content of the response to one request."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def evaluated_labels() -> tuple[np.ndarray, np.ndarray]:
    """The predicted labels of the test images: integers [n] of the best seed, and [n] of the ensemble."""
    champion = predict.read_champion()
    variant = champion["variant"]
    results = read_results(variant)
    return results.predicted[results.seeds.index(champion["seed"])], results.ensemble


def served_labels(server: Server, images: Sequence[bytes], *, ensemble: bool) -> np.ndarray:
    """The label of every image from the server, integers [n], requested in batches."""
    labels = []
    with server.connect() as connection:
        for start in range(0, len(images), BATCH):
            status, content = post(connection, invocation(images[start : start + BATCH], ensemble=ensemble))
            if status != http.HTTPStatus.OK:
                raise RuntimeError(f"HTTP status {status}: {content}")
            labels += [row["label"] for row in content["predictions"]]
    return np.array(labels)


def labels_at_once(server: Server, images: Sequence[bytes], *, clients: int, ensemble: bool) -> list[int | None]:
    """The label of every image from the server, requested one by one by concurrent clients; None after an error."""
    labels: list[int | None] = [None] * len(images)

    def client(first: int) -> None:
        with server.connect() as connection:
            for number in range(first, len(images), clients):
                status, content = post(connection, invocation([images[number]], ensemble=ensemble))
                if status == http.HTTPStatus.OK:
                    labels[number] = content["predictions"][0]["label"]

    threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return labels
