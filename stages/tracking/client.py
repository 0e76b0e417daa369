"""An MLflow client on the tracking URI, with the local database behind it; how MLflow's errors are reported."""

import contextlib
import logging
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from many_seeds.redact import redact
from stages.study import files
from stages.tracking import address

# The columns of MLflow's tables that hold the locations of artifacts.
LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def connect() -> Any:
    """An MlflowClient on the tracking URI; the local database is created if it is missing.

    Call it under `address.lock`: two processes that create the database at the same time fail.
    """
    environment = address.client_environment()
    if not os.environ.get(address.TRACKING_URI):
        # The default depends on the current folder, so it is not stored in the environment of the process.
        del environment[address.TRACKING_URI]
    os.environ |= environment
    import mlflow  # here: it takes seconds, and a stage with nothing to publish should not wait for it

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if database := address.local_database():
        if database.exists():
            follow_move(database)
        else:
            # Created atomically: MLflow refuses a database whose creation was interrupted.
            with files.written_whole(database) as unfinished:
                mlflow.MlflowClient(tracking_uri=address.database_uri(unfinished)).search_experiments()
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def follow_move(database: Path) -> None:
    """Update the locations of artifacts after the checkout was moved or copied.

    MLflow stores absolute paths and has no call to change them.
    """
    here = (database.parent / address.ARTIFACTS).as_uri()
    marked = (
        "SELECT DISTINCT artifact_location FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = ? AND artifact_location LIKE 'file:%/' || ? AND artifact_location != ?"
    )
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        former = connection.execute(marked, (address.DATA, address.ARTIFACTS.name, here)).fetchall()
        for (there,) in former:
            for table, column in LOCATIONS.items():
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
                )


def describe_error(error: Exception) -> str:
    """The first line of an error of MLflow, without the HTML page or stack trace that a server may have sent."""
    return str(error).strip().partition("\n")[0].partition(" Response body")[0]


def warn(message: str) -> None:
    print(redact(f"warning: {message}"), file=sys.stderr, flush=True)
