"""Where runs are published: the study's experiment, and what it holds under which key."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from many_seeds.errors import UserError
from stages.study import git
from stages.study.params import Params
from stages.tracking import address, client, experiment, views
from stages.tracking.address import KEY

PAGE = 1000  # runs of one answer
FEW = 2  # keys that are asked for one by one


@dataclass(frozen=True)
class Target:
    client: Any
    experiment: str
    commit: str | None  # of the code that made the results


def connect(study: Params) -> Target:
    """The study's experiment at the tracking URI, made if need be.

    Raises:
        UserError: the experiment can't be the study's.
    """
    with address.lock():
        opened = client.connect()
        return Target(opened, experiment.own(opened, study), git.code_commit())


def pages(study: Params, base: str) -> dict[str, str]:
    """The addresses of the study's pages by their names, the one that opens first at the front.

    Args:
        study: what params.yaml says.
        base: the address of MLflow's UI on the tracking URI.

    Raises:
        UserError: the experiment can't be the study's, or MLflow can't be reached.
    """
    from mlflow.exceptions import MlflowException

    try:
        return views.addresses(study, base, connect(study).experiment)
    except MlflowException as error:
        said = client.in_a_line(error)
        raise UserError(f"MLflow at {address.shown_uri()} can't be asked ({said})") from error


def search(target: Target, text: str) -> list[Any]:
    """The runs of the experiment for which the filter `text` holds, the oldest first."""
    found: list[Any] = []
    token = None
    while True:
        page = target.client.search_runs(
            [target.experiment], text, order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def find(target: Target, keys: Collection[str]) -> dict[str, Any]:
    """The published runs by their key; of two with one key, left by publishers on two machines, the first stays."""
    few = len(keys) <= FEW
    texts = [f"tags.`{KEY}` = '{key}'" for key in sorted(keys)] if few else [f"tags.`{KEY}` LIKE '%'"]
    found: dict[str, Any] = {}
    for run in [run for text in texts for run in search(target, text)]:
        key = run.data.tags[KEY]
        if key in found:
            target.client.delete_run(run.info.run_id)
        elif key in keys:
            found[key] = run
    return found
