"""Real MLflow servers and databases of the tests' own, and what they say of a published study."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from stages.tracking import address


def client() -> Any:
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def runs() -> list[Any]:
    experiment = client().get_experiment_by_name("digits")
    return list(client().search_runs([experiment.experiment_id], max_results=1000)) if experiment else []


def content() -> dict[str, Any]:
    """All that the experiment says, by variant and seed, without the names and times that MLflow gives."""
    names = {run.info.run_id: run.info.run_name for run in runs()}
    said = {}
    for run in runs():
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.artifacts"}
        if parent := tags.pop("mlflow.parentRunId", None):
            tags["parent"] = names[parent]
        said[run.info.run_name] = {
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
    return said


@contextlib.contextmanager
def mlflow_server(store: str, artifacts: Path) -> Iterator[str]:
    """The address of an MLflow server over the database `store` that serves the artifacts itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
    # Without the job runners for language models: seven processes that nobody here needs.
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with subprocess.Popen(
        command,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            # The one is said before it listens, or the other before it answers.
            if all(any(of in line for line in said) for of in ("Application startup complete", "running on http")):
                break
        else:
            raise AssertionError("the MLflow server did not start:\n" + "".join(said))
        # A full pipe would stop the server.
        rest = threading.Thread(target=server.stdout.read)
        rest.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # MLflow leaves the work to children
            rest.join()


@contextlib.contextmanager
def sqlite(empty: Path) -> Iterator[str]:
    """The URI of a copy of the database `empty`; creating one takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty, f"{folder}/mlflow.db")
        yield f"sqlite:///{folder}/mlflow.db"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URI of an empty PostgreSQL database, reached through a socket that nobody else knows."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL here")
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None

    def run(name: str, *arguments: str) -> None:
        command = [str(programs[-1] / name), *arguments]
        subprocess.run(command, user=user, cwd=folder, stdout=subprocess.DEVNULL, check=True)

    # Not in pytest's folder, whose path is too long for a socket and closed to other users.
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
