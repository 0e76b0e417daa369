"""Register the champion of the study in MLflow's model registry: `python -m tools.serving.register`.

The runs have to be published before, by `python -m stages.tracking`. A version has the models of all seeds, for the
ensemble; the alias `champion` leads to the newest version.
"""

import os
import platform
from http import HTTPStatus
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests import RequestException

from many_seeds.commands import console
from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from stages.study import files, git, params, paths
from stages.study.data import Resize
from stages.study.params import Params
from stages.study.records.current import aggregated, study_key
from stages.study.records.results import VariantResults, read_results
from stages.tracking import address
from stages.tracking.client import check_database, describe_error, is_too_large, too_large
from tools.serving import page, predict
from tools.serving import server as serve

HARDEST = 8  # number of test images in the model card
SCALED = {None: "", "fit": ", scaled whole, with black edges", "crop": ", scaled and cropped"}
NEEDED = 3  # minimum major version of an MLflow server


def register(study: Params) -> str:
    """Register the champion, unless the registry has it already.

    Without a champion or its models, nothing is registered, which is not an error.

    Args:
        study: the content of params.yaml.

    Returns:
        A line that describes what was registered, or why nothing was.

    Raises:
        UserError: the study is not published, or MLflow fails.
    """
    try:
        champion = predict.read_champion()
    except UserError as error:
        return f"no model is registered: {error}"
    if not aggregated(study):
        return f"no model is registered: the results are not all of {params.PARAMS}; run `dvc repro`"
    results = read_results(champion["variant"])
    if champion["key"] not in results.keys:
        return f"no model is registered: {paths.CHAMPION} names a run that was replaced; run `dvc repro`"
    if problem := _problem(results):
        return f"no model is registered: {problem}"
    card = model_card(study, champion, results)
    # A version is identified by its models, its code with the page, and its model card.
    code = [path.read_bytes() for folder in serve.USED for path in sorted(folder.rglob("*.py"))]
    code += [path.read_bytes() for path in sorted(page.STATIC.iterdir())]
    key = files.digest(files.json_bytes([champion, results.keys]), *code, card)
    name = address.model_name(study)
    try:
        with address.lock():
            return _register_version(study, name, champion, card, key)
    except (MlflowException, RequestException) as error:
        raise UserError(f"the model is not registered: {_describe_failure(error)}") from error


def _problem(results: VariantResults) -> str | None:
    """Why the models can't be registered, as one is missing or was not evaluated; or None."""
    for seed in results.seeds:
        run = paths.run_path(results.variant, seed)
        if not (run / "model.keras").exists():
            return f"{run / 'model.keras'} is missing: run `dvc pull`, or `dvc repro` without a remote"
        try:
            predict.read_evaluated_facts(run, results, seed)
        except UserError as error:
            return str(error)
    return None


def _register_version(study: Params, name: str, champion: dict[str, Any], card: str, key: str) -> str:
    """Set the alias to a version with this key, created if there is none; returns a description of the change."""
    client = mlflow.MlflowClient()
    known = _study_model(client, name)
    alias, previous = f"models:/{name}@{serve.ALIAS}", known.aliases.get(serve.ALIAS) if known else None
    before = f" (it was version {previous}{_origin(client, name, previous)})" if previous else ""
    if same := _versions(client, name, key) if known else []:
        if previous in same:
            return f"{alias} is version {previous}, as before"
        client.set_registered_model_alias(name, serve.ALIAS, same[0])
        return f"{alias} is version {same[0]} again{before}"
    experiment, run_id = _published(client, study)
    model = _logged(client, experiment, run_id)
    if known is None:
        client.create_registered_model(
            name,
            tags={address.DATA: study.data.name},
            description=f"The served model of the study on {study.data.name}. Each version says how it was chosen.",
        )
    created = client.create_model_version(
        name,
        model.model_uri,
        run_id=run_id,
        model_id=model.model_id,
        description=card,
        tags={
            address.KEY: key,
            address.ORIGIN: _here(),
            "git_commit": git.code_commit() or "none",
            "variant": champion["variant"],
            "seed": str(champion["seed"]),
        },
    ).version
    # The last step, so that an incomplete version never becomes the champion.
    client.set_registered_model_alias(name, serve.ALIAS, created)
    return f"{alias} is version {created} now{before}: {predict.describe(champion)}; {champion['rule']}"


def _here() -> str:
    return f"{platform.node()}:{Path.cwd()}"


def _origin(client: Any, name: str, version: str) -> str:
    """Where a version was registered, with a remedy, if that was in another checkout and is known; else empty."""
    tags = client.get_model_version(name, version).tags
    if tags.get(address.ORIGIN, _here()) == _here():
        return ""
    return (
        f", registered in {tags[address.ORIGIN]} at commit {tags['git_commit'][:10]}; if that is another study, give "
        f"this one a `name` in {params.PARAMS}"
    )


def _versions(client: Any, name: str, key: str) -> list[str]:
    """The versions with this key whose files are available: they may have been deleted or moved."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{address.KEY}` = '{key}'")
    return [version.version for version in found if _has_files(name, version.version)]


def _study_model(client: Any, name: str) -> Any | None:
    """The registered model of the study, or None.

    Raises:
        UserError: another registered model has this name.
    """
    if not client.search_registered_models(f"name = '{name}'"):
        return None
    known = client.get_registered_model(name)
    if address.DATA not in known.tags:
        raise UserError(
            f"the registered model {name!r} at {address.shown_uri()} does not belong to the study, so it is not "
            f"changed: set {address.MODEL_NAME} to another name"
        )
    return known


def _has_files(name: str, version: str) -> bool:
    try:
        return bool(mlflow.artifacts.list_artifacts(f"models:/{name}/{version}"))
    except (MlflowException, OSError):
        return False


def _published(client: Any, study: Params) -> tuple[str, str]:
    """The ids of the study's experiment and of its run `study` with the present results.

    Raises:
        UserError: there is no such run.
    """
    experiment = client.get_experiment_by_name(address.experiment_name(study))
    same_results = f"tags.`{address.KEY}` = '{study_key()}'"
    studies = client.search_runs([experiment.experiment_id], same_results, max_results=1) if experiment else []
    if not studies:
        raise UserError(f"the study is not published at {address.shown_uri()}: run `python -m stages.tracking` first")
    return experiment.experiment_id, studies[0].info.run_id


def _logged(client: Any, experiment: str, run_id: str) -> Any:
    """Log the model as an output of the run `study`, whose status stays the same, even if this fails."""
    model = client.create_logged_model(experiment, "champion", source_run_id=run_id)
    logged = mlflow.pyfunc.log_model(name="champion", model_id=model.model_id, **serve.model_arguments())
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return logged


def _describe_failure(error: MlflowException | RequestException) -> str:
    """The error of the registry, or of an upload, in one line, without HTML."""
    if isinstance(error, RequestException) and error.request is not None and is_too_large(error):
        size = int(error.request.headers.get("Content-Length", 0))
        return too_large(f"{'/'.join(str(error.request.url).split('/')[-3:])} ({size / 1e6:.1f} MB)")
    uri, server = address.shown_uri(), address.server()
    if server and (version := _server_version(server)) and int(version.partition(".")[0]) < NEEDED:
        return (
            f"{uri} runs MLflow {version}, and models need a server of MLflow {NEEDED} or later; the runs are published"
        )
    return f"MLflow at {uri} reports: {describe_error(error)}"


def _server_version(uri: str) -> str | None:
    try:
        response = http_request(get_default_host_creds(uri), "/version", "GET")
    except MlflowException:
        return None
    return response.text.strip() if response.status_code == HTTPStatus.OK and response.text[:1].isdigit() else None


def model_card(study: Params, champion: dict[str, Any], results: VariantResults) -> str:
    """The model card in Markdown, after Mitchell et al. 2019, "Model cards for model reporting".

    Args:
        study: the content of params.yaml.
        champion: the content of champion.json.
        results: the results of its variant.

    Raises:
        UserError: summary.json is missing or damaged.
    """
    name = champion["variant"]
    validation = f"validation accuracy {champion['dev_accuracy']:.4f}, " if "dev_accuracy" in champion else ""
    best = results.scores.set_index("seed").loc[champion["seed"]]
    recipe = "\n".join(f"- {key}: {value}" for key, value in study.recipe(name).model_dump().items())
    summary = files.read_json(paths.SUMMARY)[name]
    accuracy = summary["test_accuracy"]
    interval = (
        f" ({study.statistics.percent} interval over seeds {accuracy['ci_low']:.4f} to {accuracy['ci_high']:.4f})"
        if "ci_low" in accuracy
        else ""
    )
    # MLflow shows the first line in lists, as plain text, and breaks lines where the text does.
    return f"""\
{predict.describe(champion)} classifies a picture as one of the {len(results.classes)} classes of {study.data.name}. \
Chosen by this rule: {champion["rule"]}.

**Data**: {study.data.name}, {_images(results, study.data.scaling)}; {100 * study.split.dev_fraction:g} % of the \
training images are the validation split. SHA-256 of the training data: {best["data"]}.

**Scores**: {validation}test accuracy {best["test_accuracy"]:.4f}. All \
{len(results.seeds)} seeds of the variant: mean test accuracy {accuracy["mean"]:.4f}{interval}. The ensemble (soft \
voting) of the first {results.members}: {summary["ensemble_accuracy"]:.4f}.

**Recipe**

{recipe}

**Hardest test images** of the study: {_hardest() or "none"}.

**Limits**: one object in each image, in the layout of the training images; other pictures are converted to it first. \
Every picture gets one of the classes, often with a high probability. The report shows how well probabilities are \
calibrated.

**Use**: `python -m tools.serving.predict IMAGE`, or `make serve`. The parameter `vote` selects the \
ensemble.

**Licence**: MIT for code and weights; the data set has its own licence.
"""


def _hardest() -> str:
    """The test images that most runs of the study misclassified."""
    path = paths.TABLES / "hardest.csv"  # missing if every run classified every test image correctly
    table = pd.read_csv(path).head(HARDEST) if path.exists() else pd.DataFrame()
    return "; ".join(f"{row.truth} classified as {row.seen} (test image {row.image})" for row in table.itertuples())


def _images(results: VariantResults, scaling: Resize | None) -> str:
    height, width, *colours = results.hardest_images.shape[1:]
    return f"{'colour' if colours else 'grey'} images of {height}×{width} pixels{SCALED[scaling]}"


@console.command
def main() -> None:
    console.take_no_arguments("tools.serving.register", __doc__)
    os.environ |= {**serve.ENVIRONMENT, **address.client_environment()}
    check_database()
    print(redact(register(params.load())))


if __name__ == "__main__":
    main()
