"""A client of MLflow, and the database in the checkout that it needs where there is no server."""

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stages.study import files
from stages.tracking import address

# Where MLflow's database keeps the places of files.
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


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
    if database := address.local_database():
        if database.exists():
            follow_move(database)
        else:
            # Whole or not at all: MLflow refuses for ever what a kill has left of a database half made.
            with files.written_whole(database) as unfinished:
                mlflow.MlflowClient(tracking_uri=address.database_uri(unfinished)).search_experiments()
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def follow_move(database: Path) -> None:
    """Let the places of files in the database of a checkout that was moved or copied be beside it again.

    MLflow keeps absolute paths and has no call to change them.
    """
    here = (database.parent / address.ARTIFACTS).as_uri()
    marked = (
        "SELECT DISTINCT artifact_location FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = ? AND artifact_location LIKE 'file:%/' || ? AND artifact_location != ?"
    )
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        former = connection.execute(marked, (address.MARK, address.ARTIFACTS.name, here)).fetchall()
        for (there,) in former:
            for table, column in PLACES.items():
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
                )


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
