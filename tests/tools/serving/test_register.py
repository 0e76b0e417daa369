"""Registration of the champion in a real MLflow database."""

import re
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from stages.aggregate import summary
from stages.aggregate.runs import read_runs
from stages.study import files, params, paths
from stages.study.data import Data
from stages.study.params import Params
from stages.study.records.results import read_results
from stages.tracking import address
from stages.tracking.publisher import Publisher
from tests.conftest import STUDY
from tests.support.command import run_main
from tests.support.mlflow import runs
from tools.serving import server as serve
from tools.serving.register import main, model_card, register


def champion_version() -> Any:
    return mlflow.MlflowClient().get_model_version_by_alias("digits", serve.ALIAS)


def test_the_model_with_the_best_validation_accuracy_is_registered_once(published: Path, study: Params) -> None:
    best = files.read_json(paths.CHAMPION)
    assert "version 1 now" in register(study)
    version = champion_version()
    assert (version.tags["variant"], version.tags["seed"]) == (best["variant"], str(best["seed"]))
    assert "version 1, as before" in register(study)
    # The other variant with a validation split gets the best validation accuracy; its test scores do not change.
    other = next(name for name, run in read_runs(study).items() if name != best["variant"] and has_validation(run))
    table = read_results(other).scores
    files.write_table(paths.scores_path(other), table.assign(dev_accuracy=[0.998, 0.999]))
    files.write_json(paths.CHAMPION, summary.champion(read_runs(study), {"other": other}))
    Publisher(study).publish_study()
    client = mlflow.MlflowClient()
    client.set_model_version_tag("digits", "1", address.ORIGIN, "theirs:/home/b/study")
    replaced = (
        "it was version 1, registered in theirs:/home/b/study at commit none; if that is another study, give this one "
        "a `name` in params.yaml"
    )
    assert f"version 2 now ({replaced}): other ({other}, seed 1); the approach" in register(study)
    version = champion_version()
    assert version.tags["variant"] == other
    assert version.tags[address.ORIGIN].endswith(f":{published}")
    client.set_model_version_tag("digits", "1", address.ORIGIN, version.tags[address.ORIGIN])
    client.set_registered_model_alias("digits", serve.ALIAS, "1")  # changed by hand
    assert "version 2 again (it was version 1)" in register(study)
    assert champion_version().version == version.version


def test_the_experiment_and_the_model_have_the_name_of_the_study_or_else_of_its_data(study: Params) -> None:
    named = params.parse(f"name: digits-large\n{STUDY}", "a study with a name")
    assert (address.experiment_name(named), address.model_name(named)) == ("digits-large", "digits-large")
    assert (address.experiment_name(study), address.model_name(study)) == ("digits", "digits")


def has_validation(run: Any) -> bool:
    return bool(np.isfinite(run.score("dev_accuracy")).all())


def test_the_champion_is_chosen_by_validation_accuracy_not_by_test_accuracy(aggregated: Path, study: Params) -> None:
    tested = {name: float(run.accuracy.mean()) for name, run in read_runs(study).items()}
    best_by_test = max(tested, key=lambda name: tested[name])
    assert best_by_test != "watched"
    for name in (best_by_test, "watched"):
        table = read_results(name).scores
        files.write_table(paths.scores_path(name), table.assign(dev_accuracy=[0.6, 0.9] if name == "watched" else 0.5))
    runs, approaches = read_runs(study), {"best by test": best_by_test, "MLP": "watched", "no split": "plain"}
    champion = summary.champion(runs, approaches)
    assert champion is not None
    assert (champion["approach"], champion["variant"], champion["seed"]) == ("MLP", "watched", 1)
    # An approach that params.yaml names is served whatever the scores are, with its lowest seed if it has none.
    named = summary.champion(runs, approaches, "best by test")
    without_split = summary.champion(runs, approaches, "no split")
    assert named is not None
    assert named["variant"] == best_by_test
    assert named["rule"] == "named in params.yaml; its best seed by validation accuracy"
    assert without_split is not None
    assert without_split["rule"] == "named in params.yaml; its lowest seed, without a validation split"
    assert (without_split["variant"], without_split["seed"], "dev_accuracy" in without_split) == ("plain", 0, False)
    card = model_card(study, without_split, read_results("plain"))
    assert f"Chosen by this rule: {without_split['rule']}." in card
    assert "**Scores**: test accuracy" in card


def test_the_model_card_has_the_task_the_scores_and_the_limits(published: Path, study: Params) -> None:
    register(study)
    card = champion_version().description
    best = files.read_json(paths.CHAMPION)
    row = read_results(best["variant"]).scores.set_index("seed")
    assert f"test accuracy {row.loc[best['seed'], 'test_accuracy']:.4f}" in card
    assert "interval" not in card  # two seeds have none
    assert "one of the 10 classes of digits" in card
    assert "grey images of 28×28 pixels" in card
    assert "classified as" in card
    assert "Limits" in card
    assert "Licence" in card
    assert "ensemble (soft voting) of the first 2:" in card
    first, *paragraphs = card.strip().split("\n\n")
    assert re.fullmatch(r"[^*#`\n]+", first)  # lists of models show it as plain text
    broken = [text for text in paragraphs if "\n" in text and not text.startswith("- ")]
    assert broken == []  # MLflow breaks a line where the text does


def test_the_model_card_describes_the_data_of_the_study(aggregated: Path, study: Params) -> None:
    champion = files.read_json(paths.CHAMPION)
    path = paths.predictions_path(champion["variant"])
    arrays = files.read_arrays(path)
    colour = np.zeros((*arrays["hardest_images"].shape[:1], 32, 24, 3), np.uint8)
    changed = arrays | {"hardest_images": colour, "classes": np.array(["cat", "dog"])}
    files.write_arrays(path, compressed=True, **changed)
    own = Data(name="mine", format="folders", train="own/mine", size=[32, 24])
    card = model_card(study.model_copy(update={"data": own}), champion, read_results(champion["variant"]))
    assert "one of the 2 classes" in card
    assert "mine, colour images of 32×24 pixels, scaled whole, with black edges;" in card
    assert "MNIST" not in card


def test_the_model_card_has_the_interval_of_the_variants_accuracy(aggregated: Path, study: Params) -> None:
    champion, means = files.read_json(paths.CHAMPION), files.read_json(paths.SUMMARY)
    means[champion["variant"]]["test_accuracy"] |= {"ci_low": 0.8125, "ci_high": 0.9375}
    files.write_json(paths.SUMMARY, means)
    card = model_card(study, champion, read_results(champion["variant"]))
    assert "(95 % interval over seeds 0.8125 to 0.9375)" in card


def test_without_the_models_nothing_is_registered_and_the_missing_file_is_named(published: Path, study: Params) -> None:
    shutil.rmtree(paths.MODELS)
    assert "dvc pull" in register(study)
    assert not mlflow.MlflowClient().search_registered_models()


def test_a_champion_of_other_runs_than_those_evaluated_is_not_registered(published: Path, study: Params) -> None:
    champion = files.read_json(paths.CHAMPION)
    files.write_json(paths.CHAMPION, {**champion, "key": "of a run that was replaced"})
    assert "dvc repro" in register(study)
    assert not mlflow.MlflowClient().search_registered_models()


def test_a_model_that_was_not_evaluated_is_not_registered(published: Path, study: Params) -> None:
    champion = files.read_json(paths.CHAMPION)
    path = paths.run_path(champion["variant"], 1) / "run.json"
    facts = files.read_json(path)
    files.write_json(path, facts | {"digests": facts["digests"] | {"model": "another"}})
    message = register(study)
    assert "no model is registered: " in message
    assert f"with SHA-256 {facts['digests']['model']}; received another: run `dvc checkout`" in message
    assert not mlflow.MlflowClient().search_registered_models()


def test_a_version_has_the_results_of_its_variant(published: Path, study: Params) -> None:
    champion = files.read_json(paths.CHAMPION)
    register(study)
    kept = Path(mlflow.artifacts.download_artifacts("models:/digits@champion")) / "artifacts"
    for path in paths.result_paths(champion["variant"]):
        assert (kept / path.name).read_bytes() == path.read_bytes()


def test_the_model_is_logged_in_the_study_run_with_its_results_not_in_the_newest(
    published: Path, study: Params
) -> None:
    [chosen_by] = [run.info.run_id for run in runs() if run.data.tags["role"] == "study"]
    report = paths.REPORT.read_bytes()
    paths.REPORT.write_bytes(report + b"of another commit")
    Publisher(study).publish_study()
    paths.REPORT.write_bytes(report)
    register(study)
    assert champion_version().run_id == chosen_by


def test_results_of_other_parameters_register_nothing_without_an_error(published: Path, study: Params) -> None:
    paths.scores_path("plain").unlink()
    assert "not all of params.yaml; run `dvc repro`" in register(study)
    assert not mlflow.MlflowClient().search_registered_models()


def test_a_study_without_a_champion_registers_nothing_without_an_error(published: Path, study: Params) -> None:
    files.write_json(paths.CHAMPION, None)
    assert "no approach in params.yaml has a validation split" in register(study)
    paths.CHAMPION.unlink()
    assert "champion.json is missing: run `dvc repro`" in register(study)
    assert not mlflow.MlflowClient().search_registered_models()


def test_the_error_for_an_unpublished_study_names_the_command(
    aggregated: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.tracking_uri())
    refused = run_main(main)
    assert refused.status == 1
    assert "run `python -m stages.tracking` first" in refused.err
    assert "Traceback" not in refused.err
