"""Where the study is in MLflow: the server or database, the names there, and the marks on what the study made."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from many_seeds.redact import redact, without_login
from stages.study.params import Params

DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")  # beside the database
KEY = "study.key"  # the tag of every run and model version that the study made: it says which
MARK = "study.data"  # the tag of every experiment and registered model that the study made, with its data set
TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_NAME"
MODEL_NAME = "STUDY_MODEL_NAME"
# For a client of MLflow, where the person has not set them.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is down should cost seconds, not the minutes of MLflow's own patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # It would print two addresses for every run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database in the checkout.

    A server's has no user and password, which `client_environment` has. A database's has: show it by `shown_uri`.

    DVC runs a queued experiment in a copy of the checkout that is deleted afterwards: its runs go where the others are.
    """
    if given := os.environ.get(TRACKING_URI):
        return without_login(given)[0]
    folder = Path(os.environ["DVC_ROOT"]) if queued_experiment() else Path()
    return database_uri((folder / DATABASE).resolve())


def shown_uri() -> str:
    """The tracking URI for people to read, without a password."""
    return redact(tracking_uri())


def client_environment() -> dict[str, str]:
    """The environment of a client of MLflow: this process's, which has the user and password apart from the address.

    Those in MLFLOW_TRACKING_URI count, as in any address, where others are given as well.
    """
    _, login = without_login(os.environ.get(TRACKING_URI, ""))
    return {**ENVIRONMENT, **os.environ, **login, TRACKING_URI: tracking_uri()}


def database_uri(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"  # a % or ? in the path would be read as a part of the URI


def local_database() -> Path | None:
    """The file of an SQLite database, where the tracking URI names one and nothing else."""
    path = tracking_uri().removeprefix("sqlite:///")
    return None if path == tracking_uri() or path.startswith("file:") else Path(unquote(path)).resolve()


def server() -> str | None:
    """The address of the tracking server, where the tracking URI is one."""
    return tracking_uri().rstrip("/") if urlsplit(tracking_uri()).scheme in ("http", "https") else None


def experiment_name(study: Params) -> str:
    """MLFLOW_EXPERIMENT_NAME, or the name of the data set."""
    return os.environ.get(EXPERIMENT_NAME) or study.data.name


def experiment_is_named() -> bool:
    return bool(os.environ.get(EXPERIMENT_NAME))


def model_name(study: Params) -> str:
    """STUDY_MODEL_NAME, or the name of the data set."""
    return os.environ.get(MODEL_NAME) or study.data.name


def dvc_experiment() -> str | None:
    """The name of the DVC experiment that this process is a part of."""
    return os.environ.get("DVC_EXP_NAME") or None


def queued_experiment() -> bool:
    """Whether DVC runs this in a copy of the checkout (`dvc exp run --queue` or `--temp`), named by DVC_ROOT."""
    root = os.environ.get("DVC_ROOT")
    return bool(dvc_experiment() and root) and Path.cwd().is_relative_to(Path(str(root)).resolve() / ".dvc" / "tmp")


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One publisher at a time on this machine and tracking URI: MLflow itself can't make a run's key unique."""
    name = hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"study-mlflow-{os.getuid()}-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
