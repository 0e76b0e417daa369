"""A study's experiment in MLflow: found or created, its description, and the runs in it by their keys."""

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from many_seeds.commands.redact import TRACKING_PASSWORD
from many_seeds.errors import UserError
from stages.study import git
from stages.study.params import Params
from stages.tracking import address, client, views
from stages.tracking.address import DATA, KEY
from stages.tracking.claims import claim, other_publisher

FINISHED, RUNNING = "FINISHED", "RUNNING"
NOTE = "mlflow.note.content"  # the tag that MLflow shows as the description of an experiment or a run
DESCRIPTION = (
    "The run `study` holds the report; each variant is a run with a child run for each seed. See **Views** for the "
    "scores of the approaches."
)
RESULTS_HEADING = "# Results"
PAGE = 1000  # runs of one response
FEW = 2  # keys that are searched for one by one
BATCH = 1000  # metrics of one `log_batch`
DECIMALS = 4  # of means over seeds

Metric = tuple[str, float, int]  # name, value, step


@dataclass(frozen=True)
class Experiment:
    """The experiment that runs are published to.

    Attributes:
        client: the MlflowClient.
        id: the experiment's id.
        commit: of the code that made the results; None outside a git checkout.
        location: the URI of the folder of its artifacts.
        refused: the files that the server refused because of their size, and their sizes in bytes.
    """

    client: Any
    id: str
    commit: str | None
    location: str
    refused: dict[str, int] = field(default_factory=dict)

    def search(self, condition: str) -> list[Any]:
        """The runs that meet a condition in MLflow's search syntax, the oldest first."""
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], condition, order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def find(self, keys: Collection[str]) -> dict[str, Any]:
        """The published runs by their keys.

        Publishers on different machines, which no lock separates, may have created a run twice: the younger is deleted,
        unless another machine is publishing it.
        """
        few = len(keys) <= FEW
        conditions = [f"tags.`{KEY}` = '{key}'" for key in sorted(keys)] if few else [f"tags.`{KEY}` LIKE '%'"]
        found: dict[str, Any] = {}
        for run in [run for condition in conditions for run in self.search(condition)]:
            key = run.data.tags[KEY]
            if key in found:
                if not other_publisher(run):
                    self.client.delete_run(run.info.run_id)
            elif key in keys:
                found[key] = run
        return found

    def create_run(
        self, name: str, key: str, stage: str, tags: Mapping[str, str], start_time: int | None = None
    ) -> Any:
        """Create a run, with the status RUNNING.

        Args:
            name: the run's name.
            key: the tag by which the run is found again.
            stage: the DVC stage that MLflow shows as its source.
            tags: further tags.
            start_time: in milliseconds; None for now.
        """
        source = {"mlflow.source.name": f"dvc repro {stage}", "mlflow.source.type": "LOCAL"}
        if self.commit:
            source |= {"mlflow.source.git.commit": self.commit, "git_commit": self.commit}
        if dvc_experiment := address.dvc_experiment():
            source["dvc_experiment"] = dvc_experiment
        return self.client.create_run(self.id, start_time, {KEY: key, **source, **claim(), **tags}, name)

    def reopen(self, run: Any) -> None:
        """Set the status of a published run to RUNNING, to add to it."""
        for name, value in claim().items():
            self.client.set_tag(run.info.run_id, name, value)
        self.client.update_run(run.info.run_id, status=RUNNING)

    def log(
        self,
        run: Any,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log parameters, metrics and tags of a run."""
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param, RunTag

        now = int(time.time() * 1000)
        parameters = [Param(name, str(value)) for name, value in (params or {}).items()]
        run_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        if parameters or run_tags:
            self.client.log_batch(run.info.run_id, params=parameters, tags=run_tags)
        points = [MlflowMetric(name, value, now, step) for name, value, step in metrics]
        for start in range(0, len(points), BATCH):
            self.client.log_batch(run.info.run_id, metrics=points[start : start + BATCH])

    def log_data(self, run: Any, name: str, digest: str, source: str) -> None:
        """Log the data set that a run was trained on; MLflow stores 36 characters of a digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=source)
        self.client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def upload(self, run: Any, path: Path, folder: str | None = None) -> bool:
        """Upload a file, unless the server, or a proxy in front of it, does not accept its size.

        Args:
            run: the run.
            path: the file.
            folder: the folder among the run's artifacts.

        Returns:
            Whether it was uploaded; if not, it is in `refused`.
        """
        from requests import HTTPError

        size = path.stat().st_size
        if size < min(self.refused.values(), default=size + 1):
            try:
                self.client.log_artifact(run.info.run_id, str(path), folder)
            except HTTPError as error:
                if not client.is_too_large(error):
                    raise
            else:
                return True
        self.refused[str(path)] = size
        return False

    def finish(self, run: Any, seconds: float | None = None) -> None:
        """Set the status FINISHED.

        Args:
            run: the run.
            seconds: how long it took. None leaves the end as it is: that of the publication would be wrong.
        """
        if seconds is None:
            self.client.update_run(run.info.run_id, status=FINISHED)
        else:
            end = run.info.start_time + int(seconds * 1000)
            self.client.set_terminated(run.info.run_id, FINISHED, end_time=end)

    def describe(self, results: str) -> None:
        """Replace the results in the experiment's description, and keep the text above them, which users may edit.

        Args:
            results: in Markdown.
        """
        former = self.client.get_experiment(self.id).tags.get(NOTE, "")
        text = former.partition(RESULTS_HEADING)[0].strip()
        description = f"{text}\n\n{RESULTS_HEADING}\n\n{results}".strip()
        if description != former:
            self.client.set_experiment_tag(self.id, NOTE, description)


def has_files(run: Any, names: Sequence[str]) -> bool:
    """Whether the artifacts of a run that are stored on this machine are there; those on a server are not checked."""
    parts = urlsplit(run.info.artifact_uri)
    folder = Path(url2pathname(parts.path))
    return parts.scheme != "file" or all((folder / name).exists() for name in names)


def connect(study: Params) -> Experiment:
    """The study's experiment at the tracking URI, created if it is missing, with a saved view of the approaches.

    Raises:
        UserError: the experiment of that name is deleted, not the study's, or of another data set.
    """
    with address.lock():
        opened = client.connect()
        found = _find_or_create(opened, study)
        if found.tags.get(views.TAG) != views.saved_view():
            opened.set_experiment_tag(found.experiment_id, views.TAG, views.saved_view())
        return Experiment(opened, str(found.experiment_id), git.code_commit(), found.artifact_location)


def pages(study: Params, base: str) -> dict[str, str]:
    """The URLs of the study's pages by their names, the approaches first.

    Args:
        study: what params.yaml says.
        base: the URL of MLflow's UI on the tracking URI.

    Raises:
        UserError: the experiment can't be the study's, or MLflow can't be reached.
    """
    from mlflow.exceptions import MlflowException

    try:
        return views.addresses(study, base, connect(study).id)
    except MlflowException as error:
        message = client.describe_error(error)
        raise UserError(f"MLflow at {address.shown_uri()} can't be asked ({message})") from error


def _find_or_create(opened: Any, study: Params) -> Any:
    name = address.experiment_name(study)
    found = opened.get_experiment_by_name(name)
    if found is not None and _is_elsewhere(found, study):
        opened.rename_experiment(found.experiment_id, f"{name} {found.experiment_id}, from {found.artifact_location}")
        found = None
    if found is None:
        tags = {DATA: study.data.name, NOTE: DESCRIPTION, "mlflow.experimentKind": "custom_model_development"}
        return opened.get_experiment(
            opened.create_experiment(name, artifact_location=address.artifact_location(), tags=tags)
        )
    if DATA not in found.tags and _may_be_used(opened, found):
        opened.set_experiment_tag(found.experiment_id, DATA, study.data.name)
    else:
        _check(found, study)
    return found


def _is_elsewhere(found: Any, study: Params) -> bool:
    """Whether the study's experiment stores artifacts beside another database: the checkout was moved or copied.

    MLflow stores absolute paths and has no call to change them, so the study is published anew.
    """
    return (
        address.artifact_location() is not None
        and found.tags.get(DATA) == study.data.name
        and found.lifecycle_stage == "active"
        and found.artifact_location != address.artifact_location()
        and found.artifact_location.endswith(f"/{address.ARTIFACTS.name}")
    )


def _may_be_used(opened: Any, found: Any) -> bool:
    """Whether an experiment without the study's tag is named by the user and has no runs.

    Some servers let only administrators create experiments.
    """
    from mlflow.entities import ViewType

    return (
        bool(os.environ.get(address.EXPERIMENT_NAME))
        and found.lifecycle_stage == "active"
        and not opened.search_runs([found.experiment_id], run_view_type=ViewType.ALL, max_results=1)
    )


def _check(found: Any, study: Params) -> None:
    """Raise a UserError if the experiment is not the study's, is deleted, or is of another data set."""
    what = f"the experiment {found.name!r} at {address.shown_uri()}"
    another = f"{address.EXPERIMENT_NAME}=… names another"
    if DATA not in found.tags:
        raise UserError(f"{what} is not the study's own, and nothing is written into it: {another}")
    if found.lifecycle_stage != "active":
        # A URI that came with a password is not repeated: the shell has it in the variable.
        secret = TRACKING_PASSWORD in os.environ or address.shown_uri() != address.tracking_uri()
        uri = f'"${address.TRACKING_URI}"' if secret else f"'{address.tracking_uri()}'"
        gc = f"mlflow gc --backend-store-uri {uri} --experiment-ids {found.experiment_id}"
        raise UserError(
            f"{what} is deleted: {address.TRACKING_URI}={uri} mlflow experiments restore --experiment-id "
            f"{found.experiment_id} restores it, "
            f"{gc if address.local_database() else '`mlflow gc` on the server'} removes it for good, {another}"
        )
    if found.tags[DATA] != study.data.name:
        raise UserError(f"{what} is of the data set {found.tags[DATA]}, not of {study.data.name}: {another}")
