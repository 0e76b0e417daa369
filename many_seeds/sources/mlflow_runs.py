"""The runs of an MLflow experiment, as its server or database has them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from many_seeds.commands.redact import redact, without_login
from many_seeds.errors import UserError
from many_seeds.output.messages import listed

PAGE = 1000  # runs per request
DEFAULT_URI = "sqlite:///mlflow.db"
# Set before MLflow is imported. A server that does not answer is reported after seconds rather than minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@dataclass(frozen=True)
class Run:
    """A run, as MLflow has it.

    Attributes:
        id: the identifier of the run.
        status: MLflow's name for it, such as "FINISHED".
        parent: the identifier of the run in which it is nested; None for none.
        parameters: name → value.
        tags: name → value.
        metrics: name → the value that was logged last.
    """

    id: str
    status: str
    parent: str | None
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    def get(self, name: str) -> str | None:
        """The value of a parameter or, if there is none of this name, of a tag; None if there is neither."""
        return self.parameters.get(name, self.tags.get(name))


def fetch_runs(experiment: str, conditions: str) -> tuple[list[Run], set[str]]:
    """Fetch the runs of an experiment from the server or database in MLFLOW_TRACKING_URI.

    Args:
        experiment: its name.
        conditions: a filter in MLflow's language, "" for all runs.

    Returns:
        All runs, since those that meet the conditions may be nested in others; and the ids of those that meet them.

    Raises:
        UserError: MLflow is not installed, can't be reached, or has no such experiment.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A server gets user and password apart from its address, so that no library shows them in an error.
    uri, login = without_login(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    os.environ |= login
    try:
        client = _client(uri)
        experiment_id = _experiment_id(client, uri, experiment)
        runs = list(_search(client, experiment_id, ""))
        chosen = _search(client, experiment_id, conditions) if conditions else runs
        return runs, {run.id for run in chosen}
    except UserError:
        raise
    except Exception as error:  # MLflow's databases and their drivers raise exceptions of many libraries
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(redact(f"MLflow at {uri} did not return the runs of {experiment!r}: {reason}")) from error


def _client(uri: str) -> Any:
    try:
        import mlflow  # optional, and takes seconds to import
    except ModuleNotFoundError as error:
        raise UserError(f"--mlflow needs the package mlflow ({error}): pip install mlflow") from error
    database = Path(uri.removeprefix("sqlite:///"))
    # MLflow would create the database.
    if uri.startswith("sqlite:///") and not (database.is_file() and database.stat().st_size):
        raise UserError(f"there is no MLflow database {database}: set MLFLOW_TRACKING_URI to where the runs are")
    return mlflow.MlflowClient(tracking_uri=uri)


def _experiment_id(client: Any, uri: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = [other.name for other in client.search_experiments()]
        raise UserError(f"MLflow at {redact(uri)} has no experiment {name!r}. Experiments: {listed(names)}")
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the experiment {name!r} is deleted: `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}` restores it"
        )
    return experiment.experiment_id


def _search(client: Any, experiment_id: str, conditions: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            conditions,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            max_results=PAGE,
            page_token=token,
        )
        for run in page:
            tags = dict(run.data.tags)
            parent = tags.get("mlflow.parentRunId")
            yield Run(run.info.run_id, run.info.status, parent, dict(run.data.params), tags, dict(run.data.metrics))
        token = page.token
        if not token:
            return
