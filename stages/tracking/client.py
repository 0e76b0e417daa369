"""An MLflow client on the tracking URI, with the local database behind it; how MLflow's errors are reported."""

import logging
import os
import re
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from stages.study import files
from stages.tracking import address

DATABASE_SECONDS = 10  # that a database may take to answer
# The argument of the drivers with the time limit of a connection, for each kind of database.
TIMEOUTS = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "timeout"}
COLLISIONS = ("unique constraint", "duplicate entry", "deadlock")  # in errors of databases
RESPONSE = re.compile(r" Response (?:body|text)")  # in an error: before what a server sent


def connect() -> Any:
    """An MlflowClient on the tracking URI; the local database is created if it is missing.

    Call it under `address.lock`: two processes that create the database at the same time fail.
    """
    environment = address.client_environment()
    if not os.environ.get(address.TRACKING_URI):
        # The default depends on the current folder, so it is not stored in the environment of the process.
        del environment[address.TRACKING_URI]
    os.environ |= environment
    check_database()
    import mlflow  # here: it takes seconds, and a stage with nothing to publish should not wait for it

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (database := address.local_database()) and not database.exists():
        # Created atomically: MLflow refuses a database whose creation was interrupted.
        with files.written_whole(database) as unfinished:
            mlflow.MlflowClient(tracking_uri=address.database_uri(unfinished)).search_experiments()
    return mlflow.MlflowClient(tracking_uri=address.tracking_uri())


def check_database() -> None:
    """Connect once to the database that the tracking URI names, if it is one that a server runs.

    MLflow itself tries for minutes, and for about an hour if packets to the server get lost.

    Raises:
        UserError: the URI is not that of a database, its driver is not installed, or the database does not answer
            within `DATABASE_SECONDS` or refuses the connection.
    """
    uri = address.tracking_uri()
    if address.local_database() or urlsplit(uri).scheme.partition("+")[0] not in TIMEOUTS:
        return
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(uri)
        timeout = {TIMEOUTS[url.get_backend_name()]: DATABASE_SECONDS}
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=timeout)
    except (ImportError, ValueError, sqlalchemy.exc.ArgumentError) as error:
        raise UserError(
            f"the database {address.shown_uri()} can't be used ({describe_error(error)}): check "
            f"{address.TRACKING_URI}, and whether the driver that it names is installed"
        ) from error
    try:
        with engine.connect():
            pass
    except sqlalchemy.exc.DBAPIError as error:
        raise UserError(
            f"the database {address.shown_uri()} does not answer ({describe_error(error)}): check "
            f"{address.TRACKING_URI}, and whether the database runs"
        ) from error


def describe_error(error: Exception) -> str:
    """The first line of an error of MLflow, without the HTML page or stack trace that a server may have sent."""
    return RESPONSE.split(str(error).strip().partition("\n")[0])[0]


def is_collision(error: Exception) -> bool:
    """Whether two publishers wrote the same row of the database at the same moment, and this one came second."""
    exists = getattr(error, "error_code", None) == "RESOURCE_ALREADY_EXISTS"
    return exists or any(text in str(error).lower() for text in COLLISIONS)


def is_too_large(error: Exception) -> bool:
    """Whether the server, or a proxy in front of it, has refused a file because of its size."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def too_large(files: str) -> str:
    """A message about files that were refused because of their size, with the remedy."""
    return (
        f"{files}, larger than {address.shown_uri()} accepts (HTTP status 413). Raise the limit of the proxy in "
        "front of it (nginx: client_max_body_size) and run `make ui`."
    )


def warn(message: str) -> None:
    print(redact(f"warning: {message}"), file=sys.stderr, flush=True)
