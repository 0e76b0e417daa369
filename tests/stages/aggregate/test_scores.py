"""Studies that compare by other scores than accuracy, from predictions to the report."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.aggregate.stage import aggregate
from stages.aggregate.summary import champion
from stages.study import params, paths
from stages.study.params import Params
from stages.tracking.study_run import results_text
from tests.support import study as made

CLASSES = ["benign", "mild", "severe", "rare"]
TRUTH = np.repeat(np.arange(4, dtype=np.uint8), [400, 100, 60, 40])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def study_of(score: str, margin: float, text: str = made.STUDY) -> Params:
    statistics = f"equivalence_margin: {margin}, score: {score}"
    return params.parse(text.replace("equivalence_margin: 0.05", statistics), "params.yaml")


def largest_class(of: Params) -> dict[str, np.ndarray]:
    """Predictions of models that all have learned nothing but the largest class."""
    return {name: np.zeros((recipe.seeds, len(TRUTH)), np.uint8) for name, recipe in of.variants.items()}


def report() -> str:
    return paths.REPORT.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.usefixtures("without_figures")
def test_models_that_predict_the_largest_class_have_a_warning_and_the_score_of_chance() -> None:
    study = study_of("balanced_accuracy", 0.5)
    made.write_predictions(study, largest_class(study), TRUTH, classes=CLASSES)
    aggregate(study)
    for name, seeds in (("ridge", 4), ("plain", 10), ("wide", 10), ("wider", 12)):
        sentence = f"{name} predicts one class only, the same for every test image: {seeds} of {seeds} seeds."
        assert sentence in report()
        assert report().index(sentence) < report().index("<table")
    caption = (paths.TABLES / "approaches.md").read_text(encoding="utf-8")
    expected = "Predicting the largest class, benign, for every image has 66.67 % test accuracy and 25.00 % balanced"
    assert expected in caption
    table = pd.read_csv(paths.TABLES / "approaches.csv")
    assert table["balanced_accuracy"].tolist() == [0.25] * 3
    assert table["accuracy"].tolist() == pytest.approx([2 / 3] * 3)
    recall = pd.read_csv(paths.TABLES / "recall.csv")
    assert recall[["class", "images", "wide_recall"]].to_numpy().tolist() == [
        ["benign", 400, 1.0],
        ["mild", 100, 0.0],
        ["severe", 60, 0.0],
        ["rare", 40, 0.0],
    ]


@pytest.mark.usefixtures("without_figures")
def test_a_model_that_finds_the_small_classes_is_better_by_balanced_accuracy_though_worse_by_accuracy() -> None:
    study = study_of("balanced_accuracy", 0.5)
    labels = largest_class(study)
    labels["wider"] = np.tile(TRUTH, (12, 1))
    for seed in range(12):
        labels["wider"][seed, : 230 + seed % 3] = 1  # of the 400 images of the largest class
    made.write_predictions(study, labels, TRUTH, classes=CLASSES)
    aggregate(study)
    steps = pd.read_csv(paths.TABLES / "ablations_units.csv").set_index("step")
    row = steps.loc["wider"]
    # Recall 170 of 400, 1, 1, 1 against 1, 0, 0, 0: for seed 0, (0.425 + 3) / 4 - 0.25.
    assert (row["score"], row["verdict"], row["verdict_new_images"]) == ("balanced_accuracy", "better", "better")
    assert row["difference"] == pytest.approx(100 * ((0.425 + 3) / 4 - 0.25), abs=0.1)
    assert row["low_new_images"] < row["low"] < row["high"] < row["high_new_images"]
    accuracy = pd.read_csv(paths.TABLES / "variants.csv").set_index("variant")["accuracy"]
    assert accuracy["wider"] < accuracy["wide"]
    assert "big MLP has a balanced accuracy of 85.5" in report()
    assert "wider predicts one class only" not in report()
    header = "balanced accuracy, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a, percentage points"
    assert header in (paths.TABLES / "ablations_units.md").read_text(encoding="utf-8")
    assert header in results_text(study)
    summary = json.loads(paths.SUMMARY.read_text())
    assert summary["wider"]["balanced_accuracy"]["ci_low"] > 0.8
    shown = json.loads(paths.ACCURACY.read_text())
    assert shown["balanced_accuracy"]["wide"] == 0.25


LOG_LOSS = made.STUDY.replace("linear: ridge, ", "")


@pytest.mark.usefixtures("without_png")
def test_by_log_loss_the_lower_one_is_better_and_every_text_says_so() -> None:
    study = study_of("log_loss", 0.01, LOG_LOSS)
    truth = np.arange(made.IMAGES, dtype=np.uint8) % 10
    labels = {name: made.predicted(wrong, truth) for name, wrong in made.WRONG.items()}
    noise = np.linspace(-0.01, 0.01, 10)
    losses = {"plain": (0.5 + noise).tolist(), "wide": (0.3 + noise**2).tolist(), "wider": [0.3] * 12}
    made.write_predictions(study, labels, truth, classes=list("0123456789"), losses=losses)
    aggregate(study)
    comparisons = pd.read_csv(paths.TABLES / "comparisons.csv").iloc[0]
    assert (comparisons["a"], comparisons["b"], comparisons["score"]) == ("wide", "plain", "log_loss")
    assert comparisons["difference"] == pytest.approx(0.2, abs=0.001)
    assert comparisons["verdict"] == "worse"
    assert pd.read_csv(paths.TABLES / "ablations_units.csv")["verdict"].tolist()[0] == "better"
    assert np.isnan(comparisons["low_new_images"])  # the losses of single images are not kept
    page = report()
    assert "within ±0.01 nats, else better or worse if it excludes 0 (lower is better)" in page
    assert "A lower log loss is better." in page
    assert "difference in log loss (nats; lower is better)" in page
    assert "has a log loss of 0.3000 nats (lower is better)" in page
    table = pd.read_csv(paths.TABLES / "variants.csv").set_index("variant")
    assert np.isnan(table.loc["ridge", "log_loss"])  # its loss is a squared error
    assert table.loc["plain", "log_loss"] == pytest.approx(0.5)


@pytest.mark.usefixtures("without_png")
def test_scores_of_single_comparisons_have_tables_of_their_own() -> None:
    entry = "{a: wide, b: plain}\n  - {a: plain, b: wide, score: macro_f1, margin: 2.5}"
    study = params.parse(made.STUDY.replace("{a: wide, b: plain}", entry), "params.yaml")
    truth = np.arange(made.IMAGES, dtype=np.uint8) % 10
    labels = {name: made.predicted(wrong, truth) for name, wrong in made.WRONG.items()}
    made.write_predictions(study, labels, truth, classes=list("0123456789"))
    aggregate(study)
    by_accuracy, by_f1 = (pd.read_csv(paths.TABLES / f"{name}.csv") for name in ("comparisons", "comparisons_macro_f1"))
    assert (by_accuracy["score"].tolist(), by_f1["score"].tolist()) == (["accuracy"], ["macro_f1"])
    assert by_f1["verdict"].tolist() == ["equivalent"]
    assert by_f1["verdict_new_images"].isna().all()
    assert {"overview_macro_f1.png", "convergence_macro_f1.png", "pair_plain_wide_macro_f1.png"} <= {
        path.name for path in paths.PLOTS.iterdir()
    }
    page = report()
    assert page.count("hold simultaneously with 95 % confidence, at any number") == 1
    assert "The 4 intervals hold simultaneously" in page
    assert (
        "Macro F1: Each verdict is read off its interval: equivalent if it lies within ±2.5 percentage points" in page
    )
    ledger = pd.read_csv(paths.TABLES / "ledger.csv")
    assert ledger["score"].tolist() == ["accuracy", "macro_f1", "accuracy", "accuracy"]
    f1 = pd.read_csv(paths.TABLES / "pair_plain_wide_macro_f1.csv")
    assert 0.85 < f1["wide_macro_f1"].mean() < 0.95


def test_the_champion_is_chosen_by_validation_loss_where_the_score_is_the_log_loss() -> None:
    runs = made.runs()
    for name, (accuracy, loss) in {"plain": (0.9, 0.4), "wide": (0.8, 0.2), "wider": (0.7, 0.3)}.items():
        table = runs[name].scores
        table["key"], table["dev_accuracy"] = "k", accuracy
        table["dev_loss"] = loss + 0.01 * np.arange(len(table))[::-1]
    by_loss, by_accuracy = champion(runs, "log_loss"), champion(runs, "balanced_accuracy")
    assert by_loss is not None
    assert by_accuracy is not None
    assert (by_loss["variant"], by_loss["seed"], by_loss["dev_loss"]) == ("wide", 9, 0.2)
    assert (by_accuracy["variant"], by_accuracy["seed"]) == ("plain", 0)


@pytest.mark.usefixtures("without_figures")
def test_a_study_of_one_race_has_its_winner_as_headline_and_in_the_files_that_programs_read() -> None:
    """A study without comparisons, of which seed 2 of `plain` diverged."""
    text = re.sub(
        r"(?s)approaches:.*(?=statistics)", "approaches: {MLP: wide}\ncomparisons: []\nchains: {}\n", made.STUDY
    )
    study = params.parse(f"{text}races: {{units: {{variants: [plain, wide, wider]}}}}\n", "params.yaml")
    truth = np.arange(made.IMAGES, dtype=np.uint8) % 10
    labels = {name: made.predicted(wrong, truth) for name, wrong in made.WRONG.items()}
    made.write_predictions(study, labels, truth, classes=tuple("0123456789"))
    aggregate(study)
    assert "<h1>wider wins</h1>" in report()
    assert '<p class="lead">Race units, by test accuracy: wider wins after 6 seeds; eliminated: plain' in report()
    assert report().index('id="figure-race_units"') < report().index('id="approaches"')
    for path in (paths.SUMMARY, paths.ACCURACY):
        race = json.loads(path.read_text())["races"]["units"]
        assert (race["leader"], race["seeds"], race["in_race"]) == ("wider", 6, 1)
    assert "| race | units: plain wide wider |" in (paths.TABLES / "ledger.md").read_text(encoding="utf-8")
    described = results_text(study)
    assert described.startswith("## Race units, by test accuracy: wider wins after 6 seeds")
    assert "| wider | winner | 98.50 % | 6 |" in described
