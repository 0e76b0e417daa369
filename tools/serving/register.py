"""The study's best model in MLflow's model registry: `python -m tools.serving.register`.

It needs the runs that `python -m stages.tracking` publishes.

A version holds the best seed's model and those of all seeds for the vote; the alias `champion` is the newest version's.
"""

import os
from http import HTTPStatus
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from many_seeds import console
from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.study import files, params, paths
from stages.study.current import aggregated, study_key
from stages.study.params import Params
from stages.study.results import VariantResults, read_results
from stages.tracking import address
from stages.tracking.client import describe_error
from tools.serving import predict
from tools.serving import server as serve

HARDEST = 8  # digits, in the card
NEEDED = 3  # MLflow's major version, of a server


def register(study: Params) -> str:
    """Register the champion if it is another one than the registry's; what was done, in words.

    A study without a champion, or a clone without its models, registers nothing and is none the worse for it.

    Raises:
        UserError: the study is not published.
    """
    try:
        champion = predict.read_champion()
    except UserError as error:
        return f"no model is registered: {error}"
    if not aggregated(study):
        return f"no model is registered: the results are not all of {params.PARAMS}; run `dvc repro`"
    results = read_results(champion["variant"])
    if champion["key"] not in results.keys:
        return f"no model is registered: {paths.CHAMPION} is of runs that others have replaced; run `dvc repro`"
    if objection := _objection(results):
        return f"no model is registered: {objection}"
    card = model_card(study, champion, results)
    # What is served: these models by this code; and what is said of them.
    code = [path.read_bytes() for folder in serve.USED for path in sorted(folder.rglob("*.py"))]
    key = files.digest(files.json_bytes([champion, results.keys]), *code, card)
    name = address.model_name(study)
    try:
        with address.lock():
            return _version(study, name, champion, card, key)
    except MlflowException as error:
        raise UserError(_explained(error)) from error


def _objection(results: VariantResults) -> str | None:
    """Why the models that are here can't be registered: one is missing, or was never evaluated."""
    for seed in results.seeds:
        run = paths.run_path(results.variant, seed)
        if not (run / "model.keras").exists():
            return f"{run / 'model.keras'} is not here; `dvc pull` brings it where there is a remote"
        try:
            predict.facts_of_evaluated(run, results, seed)
        except UserError as error:
            return str(error)
    return None


def _version(study: Params, name: str, champion: dict[str, Any], card: str, key: str) -> str:
    client = mlflow.MlflowClient()
    known = _own_model(client, name)
    alias, former = f"models:/{name}@{serve.ALIAS}", known.aliases.get(serve.ALIAS) if known else None
    before = f" (it was version {former})" if former else ""
    if same := _versions(client, name, key) if known else []:
        if former in same:
            return f"{alias} is version {former}, as before"
        client.set_registered_model_alias(name, serve.ALIAS, same[0])
        return f"{alias} is version {same[0]} again{before}"
    experiment, run_id = _published(client, study)
    model = _logged(client, experiment, run_id)
    if known is None:
        client.create_registered_model(
            name,
            tags={address.DATA: study.data.name},
            description=f"The best model of the study on {study.data.name}, by dev accuracy.",
        )
    made = client.create_model_version(
        name,
        model.model_uri,
        run_id=run_id,
        model_id=model.model_id,
        description=card,
        tags={address.KEY: key, "variant": champion["variant"], "seed": str(champion["seed"])},
    ).version
    # Last: a version that broke off is nobody's champion, and is registered anew.
    client.set_registered_model_alias(name, serve.ALIAS, made)
    return f"{alias} is version {made} now{before}: {champion['variant']}, best seed {champion['seed']}"


def _versions(client: Any, name: str, key: str) -> list[str]:
    """The versions with this key whose files can be had: somebody may have deleted them, or moved the checkout."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{address.KEY}` = '{key}'")
    return [version.version for version in found if _is_there(name, version.version)]


def _own_model(client: Any, name: str) -> Any | None:
    """The study's registered model; None where there is none of that name."""
    if not client.search_registered_models(f"name = '{name}'"):
        return None
    known = client.get_registered_model(name)
    if address.DATA not in known.tags:
        raise UserError(
            f"the registered model {name!r} at {address.shown_uri()} is not the study's own, and is left as it is: "
            f"{address.MODEL_NAME}=… names another"
        )
    return known


def _is_there(name: str, version: str) -> bool:
    try:
        return bool(mlflow.artifacts.list_artifacts(f"models:/{name}/{version}"))
    except (MlflowException, OSError):
        return False


def _published(client: Any, study: Params) -> tuple[str, str]:
    """The ids of the study's experiment and of the run `study` with the results that are here."""
    experiment = client.get_experiment_by_name(address.experiment_name(study))
    own = f"tags.`{address.KEY}` = '{study_key()}'"
    studies = client.search_runs([experiment.experiment_id], own, max_results=1) if experiment else []
    if not studies:
        raise UserError(f"the study is not published at {address.shown_uri()}: run `python -m stages.tracking` first")
    return experiment.experiment_id, studies[0].info.run_id


def _logged(client: Any, experiment: str, run_id: str) -> Any:
    """The model under the run `study`, which isn't started again for it: a failure would be the run's."""
    model = client.create_logged_model(experiment, "champion", source_run_id=run_id)
    logged = mlflow.pyfunc.log_model(name="champion", model_id=model.model_id, **serve.model_arguments())
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return logged


def _explained(error: MlflowException) -> str:
    """What went wrong with the registry, in a line; a server's page of HTML says nothing to a person."""
    where, server = address.shown_uri(), address.server()
    if server and (version := _server_version(server)) and int(version.partition(".")[0]) < NEEDED:
        return (
            f"the model is not registered: {where} runs MLflow {version}, and models need a server of MLflow {NEEDED} "
            "or later; the runs are published"
        )
    return f"the model is not registered: MLflow at {where} says: {describe_error(error)}"


def _server_version(where: str) -> str | None:
    try:
        answer = http_request(get_default_host_creds(where), "/version", "GET")
    except MlflowException:
        return None
    return answer.text.strip() if answer.status_code == HTTPStatus.OK and answer.text[:1].isdigit() else None


def model_card(study: Params, champion: dict[str, Any], results: VariantResults) -> str:
    """What a user of the model should know, in Markdown (after Mitchell et al. 2019, "Model cards").

    Args:
        study: what params.yaml says.
        champion: what champion.json says.
        results: of its variant.

    Raises:
        UserError: a table of aggregate is missing or damaged.
    """
    name = champion["variant"]
    best = results.scores.set_index("seed").loc[champion["seed"]]
    recipe = "\n".join(f"- {key}: {value}" for key, value in study.recipe(name).model_dump().items())
    summary = files.read_json(paths.SUMMARY)[name]
    accuracy = summary["test_accuracy"]
    interval = (
        f" ({study.statistics.percent} interval over seeds {accuracy['ci_low']:.4f} to {accuracy['ci_high']:.4f})"
        if "ci_low" in accuracy
        else ""
    )
    path = paths.TABLES / "hardest.csv"  # not there where no test image was hard for any run
    table = pd.read_csv(path).head(HARDEST) if path.exists() else pd.DataFrame()
    hardest = "; ".join(f"{row.truth} seen as {row.seen} (test image {row.image})" for row in table.itertuples())
    return f"""\
## {name}, seed {champion["seed"]}

Classifies a picture as one of the {len(results.classes)} classes of {study.data.name}. Chosen by dev accuracy among the
seeds of the variants that have a dev split; the test set had no part in it.

**Data**: {study.data.name}, {_images(results)}; {100 * study.split.dev_fraction:g} % of the training images
are the dev split. SHA-256 of the training data: {best["data"]}.

**Scores**: dev accuracy {best["dev_accuracy"]:.4f}, test accuracy {best["test_accuracy"]:.4f}. All
{len(results.seeds)} seeds of the variant: mean test accuracy {accuracy["mean"]:.4f}{interval}. The ensemble of the
first {results.members}: {summary["ensemble_accuracy"]:.4f}.

**Recipe**
{recipe}

**Hardest test images** of the study: {hardest or "none was wrong"}.

**Limits**: one object an image, which lies in it as those of the training data do: other pictures are brought to their
form first. Whatever is shown is given one of the classes, often with a high probability. The report shows how far
probabilities can be trusted.

**Use**: `python -m tools.serving.predict IMAGE`, or `make serve`. The parameter `vote` asks the first
{results.members} seeds.

**Licence**: MIT for code and weights; the data have terms of their own.
"""


def _images(results: VariantResults) -> str:
    height, width, *colours = results.hardest_images.shape[1:]
    return f"{'colour' if colours else 'grey'} images of {height}×{width} pixels"


@console.command
def main() -> None:
    console.take_no_arguments("tools.serving.register", __doc__)
    os.environ |= {**serve.ENVIRONMENT, **address.client_environment()}
    print(redact(register(params.load())))


if __name__ == "__main__":
    main()
