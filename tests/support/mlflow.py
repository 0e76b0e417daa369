"""MLflow servers and databases for tests, and the content of a published study."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow

from stages.tracking import address
from stages.tracking.claims import PUBLISHER


def client() -> Any:
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def runs() -> list[Any]:
    experiment = client().get_experiment_by_name("digits")
    return list(client().search_runs([experiment.experiment_id], max_results=1000)) if experiment else []


def content() -> dict[str, Any]:
    """The content of the experiment's runs, as run name → fields, without the ids and times of MLflow."""
    names = {run.info.run_id: run.info.run_name for run in runs()}
    found = {}
    for run in runs():
        tags = {name: value for name, value in run.data.tags.items() if name not in ("mlflow.artifacts", PUBLISHER)}
        if parent := tags.pop("mlflow.parentRunId", None):
            tags["parent"] = names[parent]
        found[run.info.run_name] = {
            "status": run.info.status,
            "parameters": run.data.params,
            "metrics": {
                name: [(m.step, m.value) for m in client().get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
            "tags": tags,
            "inputs": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
            "artifacts": sorted(file.path for file in client().list_artifacts(run.info.run_id)),
        }
    return found


@contextlib.contextmanager
def mlflow_server(store: str, artifacts: Path) -> Iterator[str]:
    """The address of an MLflow server with the database `store`, which serves the artifacts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
    # Without the job runners for language models, which are seven processes.
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        printed = []
        for line in server.stdout:
            printed.append(line)
            # The server is ready after both lines, which come in any order.
            if all(
                any(text in line for line in printed) for text in ("Application startup complete", "running on http")
            ):
                break
        else:
            raise AssertionError("the MLflow server did not start:\n" + "".join(printed))
        # A full pipe would block the server.
        rest = threading.Thread(target=server.stdout.read)
        rest.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # MLflow's server runs in child processes
            rest.join()


def version_2(path: str, length: int) -> tuple[int, bytes] | None:
    """What an MLflow server of version 2 answers, which knows no logged models."""
    if "logged-models" in path:
        return 404, b"<!doctype html>\n<title>404 Not Found</title>"
    return (200, b"2.22.0") if path == "/version" else None


@contextlib.contextmanager
def proxy(server: str, own_answer: Callable[[str, int], tuple[int, bytes] | None]) -> Iterator[str]:
    """The address of a proxy in front of an MLflow server.

    Args:
        server: the server's address.
        own_answer: returns status and body of what the proxy answers itself to a request for a path with so many bytes.
    """

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if own := own_answer(self.path, length):
                self.rfile.read(length)
                return self.send(*own)
            asked = mlflow.utils.rest_utils.http_request(
                mlflow.utils.credentials.get_default_host_creds(server),
                self.path,
                self.command,
                data=self.rfile.read(length),
                extra_headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
            )
            return self.send(asked.status_code, asked.content)

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


@contextlib.contextmanager
def sqlite(empty: Path) -> Iterator[str]:
    """The URI of a copy of the database `empty`; creating one takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty, f"{folder}/mlflow.db")
        yield f"sqlite:///{folder}/mlflow.db"


def postgresql_programs() -> list[Path]:
    """The folders with the programs of PostgreSQL, the newest last; none where it is not installed."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URI of an empty PostgreSQL database with a private socket."""
    programs = postgresql_programs()
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None

    def run(name: str, *arguments: str) -> None:
        command = [str(programs[-1] / name), *arguments]
        subprocess.run(command, user=user, cwd=folder, stdout=subprocess.DEVNULL, check=True)

    # Not in pytest's folder, whose path is too long for a socket and not accessible to other users.
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        run("initdb", "--pgdata", f"{folder}/data", "--auth", "trust", "--username", "study")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "--pgdata", f"{folder}/data", "--options", options, "--log", f"{folder}/log", "--wait", "start")
        try:
            run("createdb", "--host", folder, "--username", "study", "mlflow")
            yield f"postgresql://study@/mlflow?host={folder}"
        finally:
            run("pg_ctl", "--pgdata", f"{folder}/data", "--mode", "immediate", "stop")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
