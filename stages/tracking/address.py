"""Where a study is published: the tracking URI, the names of its experiment and model, and the tags that mark them."""

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from many_seeds.commands.redact import redact, without_login
from stages.study.params import Params

DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")  # beside the database
KEY = "study.key"  # tag of every run and model version that a study publishes: identifies its content
DATA = "study.data"  # tag of every experiment and registered model that a study creates: the name of its data set
ORIGIN = "study.origin"  # tag of every model version: the host and the folder that it was registered from
TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_NAME"
MODEL_NAME = "STUDY_MODEL_NAME"
# Defaults for an MLflow client; variables that are set take precedence.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is down should cost seconds; MLflow's defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # MLflow would print two URLs for every run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database of the checkout.

    The URI of a server has no user and password; `client_environment` has them. The URI of a database may have them:
    print `shown_uri` instead. DVC runs a queued experiment in a copy of the checkout that it deletes afterwards, so the
    runs of one go to the database of the checkout itself.
    """
    if given := os.environ.get(TRACKING_URI):
        return without_login(given)[0]
    folder = Path(os.environ["DVC_ROOT"]) if queued_experiment() else Path()
    return database_uri((folder / DATABASE).resolve())


def shown_uri() -> str:
    """The tracking URI without a password, for messages."""
    return redact(tracking_uri())


def client_environment() -> dict[str, str]:
    """The environment variables for an MLflow client: those of this process, with user and password apart from the URI.

    User and password in MLFLOW_TRACKING_URI take precedence over MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD.
    """
    _, login = without_login(os.environ.get(TRACKING_URI, ""))
    return {**ENVIRONMENT, **os.environ, **login, TRACKING_URI: tracking_uri()}


def database_uri(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"  # an unquoted % or ? in the path would be read as part of the URI


def local_database() -> Path | None:
    """The file of the SQLite database that the tracking URI names; None for a server or a URI with options."""
    path = tracking_uri().removeprefix("sqlite:///")
    if path == tracking_uri() or path.startswith("file:") or "?" in path:  # a ? in a file's name is quoted
        return None
    return Path(unquote(path)).resolve()


def artifact_location() -> str | None:
    """Where artifacts are stored: beside the local database; None for a server, which has a location of its own."""
    local = local_database()
    return (local.parent / ARTIFACTS).as_uri() if local else None


def server() -> str | None:
    """The tracking URI if it is that of a tracking server, else None."""
    return tracking_uri().rstrip("/") if urlsplit(tracking_uri()).scheme in ("http", "https") else None


def experiment_name(study: Params) -> str:
    """MLFLOW_EXPERIMENT_NAME, or the name of the study, or that of its data set."""
    return os.environ.get(EXPERIMENT_NAME) or study.name or study.data.name


def model_name(study: Params) -> str:
    """STUDY_MODEL_NAME, or the name of the study, or that of its data set."""
    return os.environ.get(MODEL_NAME) or study.name or study.data.name


def dvc_experiment() -> str | None:
    """The name of the DVC experiment that this process is part of, or None."""
    return os.environ.get("DVC_EXP_NAME") or None


def queued_experiment() -> bool:
    """Whether DVC runs this process in a copy of the checkout (`dvc exp run --queue` or `--temp`)."""
    root = os.environ.get("DVC_ROOT")
    return bool(dvc_experiment() and root) and Path.cwd().is_relative_to(Path(str(root)).resolve() / ".dvc" / "tmp")


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Exclude other publishers with the same tracking URI: MLflow can't make a run's key unique.

    With a local database, these are all that use it; with a server, those of this user on this machine.
    """
    name = hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
    of_user = Path(tempfile.gettempdir()) / f"study-mlflow-{os.getuid()}-{name}.lock"
    database = local_database()
    try:
        file = _locked(database.with_name(f"{database.name}.lock") if database else of_user)
    except OSError:  # such as that of a folder that this user can't write; the database tells the user
        file = _locked(of_user)
    with file:
        yield


def _locked(path: Path) -> BinaryIO:
    """A file that is locked until it is closed. The group of a shared checkout can lock it, too."""
    file: BinaryIO
    try:
        file = path.open("ab")  # NFS locks no file that is open for reading only
    except PermissionError:  # it is of another user
        file = path.open("rb")
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)  # closes it after an error
        with contextlib.suppress(OSError):  # of a file of another user
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode) | stat.S_IRGRP | stat.S_IWGRP)
        fcntl.flock(file, fcntl.LOCK_EX)
        stack.pop_all()
    return file
