"""A client of MLflow, and the database in the checkout that it needs where there is no server."""

import logging
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stages.study import files
from stages.tracking import address


def connect() -> Any:
    """An MlflowClient at the tracking URI; the database in the checkout is made where it is not there.

    To be called under `address.lock`: two processes that create the database at once collide.
    """
    own = address.client_environment()
    if not os.environ.get(address.TRACKING_URI):
        del own[address.TRACKING_URI]  # the database of the current folder, which is not always this one
    os.environ |= own
    import mlflow  # here: it takes seconds, and a stage that has nothing to publish need not wait

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (database := address.local_database()) and not database.exists():
        # Whole or not at all: MLflow refuses for ever what a kill has left of a database half made.
        with files.written_whole(database) as unfinished:
            mlflow.MlflowClient(tracking_uri=address.database_uri(unfinished)).search_experiments()
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def local_path(uri: str) -> Path | None:
    """The path of a `file:` URI; None for other URIs."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def lost(run: Any, *names: str) -> bool:
    """Whether files that a run should have are gone from this machine; a server's are the server's to keep."""
    folder = local_path(run.info.artifact_uri)
    return folder is not None and not all((folder / name).exists() for name in names)


def finish(client: Any, run_id: str) -> None:
    """Say that a run is finished without an end: the time between would be that of its publication."""
    client.update_run(run_id, status="FINISHED")


def in_a_line(error: Exception) -> str:
    """What an error of MLflow says, without the page of HTML or the stack trace that a server may have answered."""
    return str(error).strip().partition("\n")[0].partition(" Response body")[0]


def metric(name: str, value: float, step: int = 0) -> Any:
    from mlflow.entities import Metric

    return Metric(name, value, int(time.time() * 1000), step)


def parameters(values: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in values.items()]


def source_tags(stage: str, commit: str | None) -> dict[str, str]:
    """The tags behind the UI's column "Source": what made a run, and from which commit of the code."""
    tags = {"mlflow.source.name": f"dvc repro {stage}", "mlflow.source.type": "LOCAL"}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "git_commit": commit}
    if experiment := address.dvc_experiment():
        tags["dvc_experiment"] = experiment
    return tags
