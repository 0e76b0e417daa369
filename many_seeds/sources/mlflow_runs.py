"""The runs of MLflow experiments, as its server or database has them."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from many_seeds.commands.redact import redact, without_login
from many_seeds.errors import UserError
from many_seeds.output.messages import listed

PAGE = 1000  # results per request
SYSTEM = "system/"  # metrics of the machine, whose steps count samples
EXPERIMENT = "experiment"  # the name by which --by means the experiment of a run
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
        steps: name of a metric → the step at which it was logged last.
        experiment: the name of the experiment.
    """

    id: str
    status: str
    parent: str | None
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    steps: dict[str, int]
    experiment: str

    @property
    def own_metrics(self) -> dict[str, float]:
        """The metrics that training code has logged, without those of the machine."""
        return {name: value for name, value in self.metrics.items() if not name.startswith(SYSTEM)}

    def get(self, name: str) -> str | None:
        """The value of a parameter, else of a tag, else the experiment if this is the name; None if there is none."""
        value = self.parameters.get(name, self.tags.get(name))
        return self.experiment if value is None and name == EXPERIMENT else value


@dataclass(frozen=True)
class Fetched:
    """What MLflow has of some experiments.

    Attributes:
        runs: all runs that are not deleted, in the order of the experiments and of their start.
        chosen: the ids of those that meet the conditions, which may be nested in others.
        deleted: the number of deleted runs.
    """

    runs: list[Run]
    chosen: set[str]
    deleted: int


def fetch_runs(experiments: Sequence[str], conditions: str) -> Fetched:
    """Fetch the runs of experiments from the server or database in MLFLOW_TRACKING_URI.

    Args:
        experiments: their names.
        conditions: a filter in MLflow's language, "" for all runs.

    Raises:
        UserError: MLflow is not installed, can't be reached, or has no such experiment.
    """
    with _connected(f"the runs of {called(experiments)}") as (client, uri), _without_garbage_collection():
        from mlflow.entities import ViewType

        names = {_experiment_id(client, uri, name): name for name in experiments}
        runs = [_run(run, names) for run in _search(client, list(names), "", ViewType.ACTIVE_ONLY)]
        runs.sort(key=lambda run: experiments.index(run.experiment))
        chosen = {run.id for run in runs}
        if conditions:
            chosen = {run.info.run_id for run in _search(client, list(names), conditions, ViewType.ACTIVE_ONLY)}
        deleted = sum(1 for _ in _search(client, list(names), "", ViewType.DELETED_ONLY))
        return Fetched(runs, chosen, deleted)


def fetch_tagged(tag: str, value: str) -> list[Run]:
    """The runs of all experiments in MLFLOW_TRACKING_URI that have a tag with some value.

    Raises:
        UserError: MLflow is not installed or can't be reached.
    """
    with _connected("the runs of the command") as (client, _):
        from mlflow.entities import ViewType

        experiments = {one.experiment_id: one.name for one in _pages(client.search_experiments)}
        found = _search(client, list(experiments), f"tags.`{tag}` = '{value}'", ViewType.ACTIVE_ONLY)
        return [_run(run, experiments) for run in found]


def fetch_values(ids: Sequence[str], metric: str) -> list[list[float]]:
    """All values of a metric in each run, in the order of their steps.

    Args:
        ids: of the runs.
        metric: its name.

    Raises:
        UserError: MLflow can't be reached.
    """
    with _connected(f"the values of {metric}") as (client, _):
        histories = [client.get_metric_history(run, metric) for run in ids]
    return [[one.value for one in sorted(of, key=lambda one: (one.step, one.timestamp))] for of in histories]


def called(experiments: Sequence[str]) -> str:
    """The names of experiments for messages."""
    return listed([repr(name) for name in experiments])


@contextlib.contextmanager
def _connected(what: str) -> Iterator[tuple[Any, str]]:
    """A client and the address of its server or database.

    Args:
        what: what is asked for, for errors.

    Raises:
        UserError: MLflow is not installed, or an error occurred in the block.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A server gets user and password apart from its address, so that no library shows them in an error.
    uri, login = without_login(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    os.environ |= login
    try:
        yield _client(uri), uri
    except UserError:
        raise
    except Exception as error:  # MLflow's databases and their drivers raise exceptions of many libraries
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(redact(f"MLflow at {uri} did not return {what}: {reason}")) from error


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """MLflow makes an object of each parameter; with garbage collection 3,000 runs take three times as long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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


def _search(client: Any, experiment_ids: Sequence[str], conditions: str, view: int) -> Iterator[Any]:
    search = partial(
        client.search_runs,
        list(experiment_ids),
        conditions,
        run_view_type=view,
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
    )
    return _pages(search)


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """All results of a search that returns them page by page."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run(run: Any, experiments: Mapping[str, str]) -> Run:
    tags = dict(run.data.tags)
    return Run(
        run.info.run_id,
        run.info.status,
        tags.get("mlflow.parentRunId"),
        dict(run.data.params),
        tags,
        dict(run.data.metrics),
        {metric.key: metric.step for metric in run.data._metric_objs},  # the public dictionary has no steps
        experiments[run.info.experiment_id],
    )
