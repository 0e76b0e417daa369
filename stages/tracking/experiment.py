"""The study's own experiment in MLflow: made, or known by its mark; nobody else's is written into."""

import os
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from many_seeds.redact import TRACKING_PASSWORD
from stages.study.params import Params
from stages.tracking import address, views
from stages.tracking.address import MARK

NOTE = (
    "The run `study` holds the report; each variant is a run with a child run for each seed. See **Views** for the "
    "scores of the approaches."
)


def own(client: Any, study: Params) -> str:
    """The id of the study's experiment, which is made where there is none of its name.

    Raises:
        UserError: the experiment of that name is deleted, somebody else's, or of another data set.
    """
    name = address.experiment_name(study)
    found = client.get_experiment_by_name(name)
    if found is not None and _is_elsewhere(found, study):
        client.rename_experiment(found.experiment_id, f"{name} {found.experiment_id}, from {found.artifact_location}")
        found = None
    if found is None:
        found = client.get_experiment(_create(client, name, study))
    elif MARK not in found.tags and _offered(client, found):
        client.set_experiment_tag(found.experiment_id, MARK, study.data.name)
    else:
        _check(found, study)
    if found.tags.get(views.TAG) != views.saved_view():
        client.set_experiment_tag(found.experiment_id, views.TAG, views.saved_view())
    return str(found.experiment_id)


def _create(client: Any, name: str, study: Params) -> str:
    local = address.local_database()
    return str(
        client.create_experiment(
            name,
            artifact_location=_place(local) if local else None,  # a server knows its own place
            tags={
                MARK: study.data.name,
                "mlflow.note.content": NOTE,
                "mlflow.experimentKind": "custom_model_development",
            },
        )
    )


def _place(database: Path) -> str:
    """Where files are kept: beside the database."""
    return (database.parent / address.ARTIFACTS).as_uri()


def _is_elsewhere(found: Any, study: Params) -> bool:
    """Whether the study's experiment keeps its files beside a database elsewhere: the checkout was moved or copied.

    MLflow keeps absolute paths and has no call to change them, so the study is published anew.
    """
    local = address.local_database()
    return (
        local is not None
        and found.tags.get(MARK) == study.data.name
        and found.lifecycle_stage == "active"
        and found.artifact_location != _place(local)
        and found.artifact_location.endswith(f"/{address.ARTIFACTS.name}")
    )


def _offered(client: Any, found: Any) -> bool:
    """Whether the person has named an experiment that nobody has used yet, made for the study by whoever may."""
    from mlflow.entities import ViewType

    return (
        address.experiment_is_named()
        and found.lifecycle_stage == "active"
        and not client.search_runs([found.experiment_id], run_view_type=ViewType.ALL, max_results=1)
    )


def _for_a_shell() -> str:
    """The tracking URI as a person pastes it into a shell, which knows it already where it came with a password."""
    secret = TRACKING_PASSWORD in os.environ or address.shown_uri() != address.tracking_uri()
    return f'"${address.TRACKING_URI}"' if secret else f"'{address.tracking_uri()}'"


def _check(found: Any, study: Params) -> None:
    what = f"the experiment {found.name!r} at {address.shown_uri()}"
    another = f"{address.EXPERIMENT_NAME}=… names another"
    if MARK not in found.tags:
        raise UserError(f"{what} is not the study's own, and nothing is written into it: {another}")
    if found.lifecycle_stage != "active":
        number, database = found.experiment_id, address.local_database()
        uri = _for_a_shell()
        gone = f"mlflow gc --backend-store-uri {uri} --experiment-ids {number}"
        raise UserError(
            f"{what} is deleted: {address.TRACKING_URI}={uri} mlflow experiments restore "
            f"--experiment-id {number} brings it back, "
            f"{gone if database else '`mlflow gc` on the server'} removes it for good, {another}"
        )
    if found.tags[MARK] != study.data.name:
        raise UserError(f"{what} is of the data set {found.tags[MARK]}, not of {study.data.name}: {another}")
