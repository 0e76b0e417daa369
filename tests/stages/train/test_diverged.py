"""A run that diverges, from its training to the report: seed 1 of `watched`, with a learning rate of 1e30."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.aggregate import summary
from stages.aggregate.runs import read_runs
from stages.aggregate.sections import curves
from stages.aggregate.stage import aggregate
from stages.evaluate.run import evaluate_run
from stages.evaluate.stage import evaluate
from stages.ledger.stage import update
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import FitResult
from stages.study import paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.records.results import read_results
from stages.study.records.splits import read_images, read_validation
from stages.tracking import address
from stages.tracking.publisher import Publisher
from stages.tracking.study_run import results_text
from stages.train import stage
from tests.support.mlflow import runs as runs_in_mlflow
from tests.support.runs import content_of
from tools.certify.outcomes import difference, recorded_outcome, retrained_outcome
from tools.serving.predict import choose
from tools.settle.report import tables
from tools.settle.study import GrowingStudy

SENTENCE = "watched: 1 of 2 runs diverged (seed 1); it counts as a run that predicts the largest class"

fit = KerasRecipe.fit


def fit_with_a_huge_rate_for_seed_1(self: KerasRecipe, *data: Any, seed: int, **rest: Any) -> FitResult:
    recipe = self.model_copy(update={"learning_rate": 1e30}) if seed == 1 else self
    return fit(recipe, *data, seed=seed, **rest)


@pytest.fixture(scope="module")
def study_with_a_diverged_run(
    tmp_path_factory: pytest.TempPathFactory, evaluated_study: Path, study: Params
) -> tuple[Path, str]:
    """The study after all stages, and what training and evaluation printed as warnings."""
    folder, printed = tmp_path_factory.mktemp("diverged") / "study", io.StringIO()
    shutil.copytree(evaluated_study, folder)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(printed):
        patch.chdir(folder)
        patch.setenv("STUDY_WORKERS", "1")
        patch.setattr(KerasRecipe, "fit", fit_with_a_huge_rate_for_seed_1)
        shutil.rmtree(paths.run_path("watched", 1))
        stage.train(study, ["watched"], on_finish=lambda variant, seed: None)
        evaluate(study, "watched")
        update(study)
        aggregate(study)
    return folder, printed.getvalue()


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> FitResult:
        raise AssertionError("a finished run is trained again")

    monkeypatch.setattr(KerasRecipe, "fit", refuse)


@pytest.fixture
def printed(study_with_a_diverged_run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The warnings; the current folder is that of the study, which tests must not change."""
    folder, text = study_with_a_diverged_run
    monkeypatch.chdir(folder)
    return text


def test_a_run_that_diverges_is_recorded_and_counts_as_one_that_predicts_the_largest_class(
    printed: str, evaluated_study: Path
) -> None:
    results = read_results("watched")
    assert (results.seeds, results.diverged.tolist()) == ([0, 1], [False, True])
    train = np.delete(read_images(paths.TRAIN)[1], read_validation(1))
    largest = np.bincount(train).argmax()
    assert (results.predicted[1] == largest).all()
    assert results.scores["test_accuracy"][1] == pytest.approx((results.truth == largest).mean(), abs=1e-7)
    assert 2 < results.scores["test_loss"][1] < 2.4  # that of ten classes of about the same size
    before = pd.read_csv(evaluated_study / paths.scores_path("watched"))
    pd.testing.assert_frame_equal(results.scores.iloc[:1].drop(columns="diverged"), before.iloc[:1], check_dtype=False)


def test_the_record_of_a_diverged_run_says_when_and_why(printed: str) -> None:
    facts = json.loads((paths.run_path("watched", 1) / "run.json").read_text())
    reason = "loss is nan after epoch 0: training diverges; lower learning_rate (it was 1e+30)"
    assert facts["diverged"] == {"epoch": 0, "reason": reason}
    assert (facts["epochs"], facts["best_epoch"]) == (1, None)
    labels, validation = read_images(paths.TRAIN)[1], read_validation(1)
    assert facts["dev_accuracy"] == (labels[validation] == read_results("watched").predicted[1, 0]).mean()
    assert facts["dev_loss"] == pytest.approx(2.3, abs=0.1)
    curve = (paths.run_path("watched", 1) / "curves.csv").read_text()
    assert re.fullmatch(r"seed,epoch,loss,.*\n1,0,,0.\d+,,0.\d+,1e\+30\n", curve), curve


def test_training_and_evaluation_name_a_diverged_run(printed: str) -> None:
    assert (
        "watched seed 1: diverged: loss is nan after epoch 0: training diverges; lower learning_rate (it was 1e+30); "
        "it counts as a run that predicts the largest class\n"
    ) in printed
    assert f"warning: {SENTENCE}\n" in printed
    assert "one class only" not in printed


def test_a_diverged_run_is_not_trained_or_evaluated_again(
    printed: str, study: Params, no_training: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(paths.RUNS)
    stage.train(study, ["watched"], on_finish=lambda variant, seed: None)
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    evaluate(study, "watched")
    assert capsys.readouterr().err == ""
    assert content_of(paths.RUNS) == before


def test_the_report_and_its_tables_count_diverged_runs(printed: str) -> None:
    report = paths.REPORT.read_text(encoding="utf-8")
    assert f'<p class="warning">{SENTENCE}.</p>' in report
    for name, counts in (("variants", [0, 0, 0, 1]), ("approaches", [0, 1])):
        table = pd.read_csv(paths.TABLES / f"{name}.csv")
        assert table["diverged"].tolist() == counts
        assert "diverged runs" in (paths.TABLES / f"{name}.md").read_text(encoding="utf-8")
    losses = pd.read_csv(paths.TABLES / "curves.csv")  # of the seed that did not diverge
    assert losses[["variant", "n"]].to_numpy().tolist() == [["watched", 1]] * 3


def test_seeds_that_diverged_are_marked_in_tables_and_figures_by_seed(printed: str) -> None:
    table = pd.read_csv(paths.TABLES / "pair_plain_watched.csv", keep_default_na=False)
    assert table["diverged"].tolist() == ["", "watched"]
    assert pd.read_csv(paths.TABLES / "scores.csv")["diverged"].notna().sum() == 1
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "plain and watched, seed by seed; dashed: means; crosses: diverged runs." in report
    assert "Ensembles with members that predict one class only: watched (1 of 2)." in report


def test_runs_of_other_training_data_are_not_called_those_of_another_environment(
    printed: str, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.report_differences(study, "plain", "the digest of other data")
    assert capsys.readouterr().out == "plain: its results are of other training data, and it is trained anew\n"
    stage.report_differences(study, "plain", read_results("plain").data[0])
    assert capsys.readouterr().out == ""


def test_a_variant_whose_runs_all_diverged_at_once_has_no_learning_curves(printed: str, study: Params) -> None:
    watched = read_runs(study)["watched"]
    assert len(curves.parts([watched])) == 1
    assert curves.parts([replace(watched, curves=watched.curves[watched.curves["seed"] == 1])]) == []


def test_a_diverged_run_is_not_the_champion(printed: str, study: Params) -> None:
    runs = read_runs(study)
    watched = runs["watched"]
    better = watched.scores.assign(dev_accuracy=[0.05, 0.99])
    champion = summary.champion({"watched": replace(watched, scores=better)})
    assert champion is not None
    assert (champion["seed"], champion["mean_dev_accuracy"]) == (0, 0.52)
    assert summary.champion({"watched": replace(watched, scores=better.assign(diverged=0))}) is None
    assert choose(replace(watched, scores=better), None)[0] == 0


def test_a_diverged_run_is_published_with_tags_and_its_variant_with_their_number(
    printed: str, study: Params, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path.cwd(), tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    shutil.copy(empty_database, address.DATABASE)
    publisher = Publisher(study)
    assert publisher.publish_variants(["watched"]) == 3
    assert publisher.publish_variants(["watched"]) == 0
    found = {run.info.run_name: run for run in runs_in_mlflow()}
    diverged = found["watched seed 1"]
    assert (diverged.info.status, diverged.data.tags["diverged"]) == ("FINISHED", "after epoch 0")
    assert diverged.data.tags["warning"] == "diverged; counts as a run that predicts the largest class"
    assert "diverged" not in diverged.data.metrics | found["watched seed 0"].data.tags
    assert found["watched"].data.metrics["diverged"] == 1
    shutil.rmtree(paths.MODELS)  # a clone without models has the same tags from the committed results
    assert Publisher(study).publish_variants(["watched"]) == 0


def test_make_settle_and_the_description_in_mlflow_name_diverged_runs(printed: str, study: Params) -> None:
    assert f"- {SENTENCE}\n" in results_text(study)
    text = tables(GrowingStudy("plain:watched", most=2).look())
    assert text.endswith(f"\n\n{SENTENCE}")


def test_results_without_a_diverged_run_have_no_such_column(evaluated: Path, study: Params) -> None:
    for variant in study.variants:
        assert "diverged" not in paths.scores_path(variant).read_text()
        assert not read_results(variant).diverged.any()


def test_certify_compares_runs_of_a_variant_of_which_another_one_diverged(printed: str, study: Params) -> None:
    recipe = study.recipe("watched")
    images, truth = read_images(paths.TEST)
    evaluation = environments.installed("evaluate", recipe.family)
    for seed in (0, 1):
        folder = paths.run_path("watched", seed)
        *_, again = evaluate_run(folder, recipe, seed, images, truth, evaluation)
        recorded = recorded_outcome("watched", seed, recipe.curve, "not recorded")
        assert difference(recorded, retrained_outcome(folder, again, "not recorded")) is None


def test_the_column_goes_with_the_last_diverged_run(
    printed: str, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path.cwd(), tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    recipe = study.recipe("watched").model_copy(update={"seeds": 1})
    evaluate(study.model_copy(update={"variants": {**study.variants, "watched": recipe}}), "watched")
    assert list(read_results("watched").scores.columns)[-1] == "dev_accuracy"
