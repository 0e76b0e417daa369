"""The whole pipeline: `dvc repro` of a small study on the digits, in a clone of this checkout."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from stages.study import files, paths
from tests.support.pipeline import SEEDS, STUDY, Clone, add_line, stages_run, variants_with


@pytest.fixture
def clone(finished_clone: Clone, tmp_path: Path) -> Clone:
    """A copy of a study with data, models and results."""
    return finished_clone.copy(tmp_path / "study")


def test_every_variant_and_seed_is_in_the_summary_and_in_the_scores(clone: Clone) -> None:
    summary = json.loads((clone.folder / paths.SUMMARY).read_text())
    assert list(summary) == list(STUDY["variants"])
    for variant, values in summary.items():
        scores = pd.read_csv(clone.folder / paths.scores_path(variant))
        assert scores["seed"].tolist() == list(range(SEEDS))
        assert values["seeds"] == SEEDS
        assert values["test_accuracy"]["mean"] == pytest.approx(scores["test_accuracy"].mean())
        assert values["test_accuracy"]["mean"] > 0.15  # guessing gets a tenth right


def test_dvc_metrics_are_the_mean_accuracies_on_test_set_and_validation_splits(clone: Clone) -> None:
    printed = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)
    means = printed[""]["data"][str(paths.ACCURACY)]["data"]
    scores = {name: pd.read_csv(clone.folder / paths.scores_path(name)) for name in STUDY["variants"]}
    assert means["test"] == {name: pytest.approx(table["test_accuracy"].mean()) for name, table in scores.items()}
    watched = {name: table["dev_accuracy"] for name, table in scores.items() if table["dev_accuracy"].notna().all()}
    assert 0 < len(watched) < len(scores)
    assert means["dev"] == {name: pytest.approx(column.mean()) for name, column in watched.items()}


@pytest.mark.parametrize(
    ("plot", "variants", "x"),
    [
        ("Test accuracy of each seed", set(STUDY["variants"]), "test_accuracy"),
        ("Validation loss by epoch, mean over the seeds", {"cnn"}, "epoch"),
    ],
)
def test_dvc_plots_draw_the_scores_and_the_curves_of_every_variant(
    clone: Clone, plot: str, variants: set[str], x: str
) -> None:
    chart = json.loads(clone.run("dvc", "plots", "show", plot, "--show-vega").stdout)
    assert chart["title"]["text"] == plot
    assert chart["facet"]["field"] == "variant"
    assert chart["spec"]["encoding"]["x"]["field"] == x
    points = chart["data"]["values"]
    assert {point["variant"] for point in points} == variants
    if x == "test_accuracy":
        scores = pd.concat(pd.read_csv(clone.folder / paths.scores_path(name)) for name in STUDY["variants"])
        assert [float(point[x]) for point in points] == pytest.approx(scores[x].tolist())
    else:
        curves = pd.read_csv(clone.folder / paths.curves_path("cnn"))
        assert [float(point["val_loss"]) for point in points] == pytest.approx(
            curves.groupby(x)["val_loss"].mean().tolist()
        )


def test_tables_figures_and_report_exist_and_have_no_nan(clone: Clone) -> None:
    for name in ("approaches", "comparisons", "variants", "ablations_layers", "pair_mlp_cnn", "hardest", "selection"):
        assert (clone.folder / paths.TABLES / f"{name}.csv").exists()
        assert "nan" not in (clone.folder / paths.TABLES / f"{name}.md").read_text().lower()
    for name in ("approaches", "pair_mlp_cnn", "curves_cnn", "confusion_linear", "alpha_linear", "weights_linear"):
        assert (clone.folder / paths.PLOTS / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    report = (clone.folder / paths.REPORT).read_text()
    assert "<h1>" in report
    assert not re.search(r'(>|data-value=")\s*nan\s*[<"]', report, re.IGNORECASE)


def test_a_second_repro_runs_nothing(clone: Clone) -> None:
    assert stages_run(clone.repro()) == []


def test_another_confidence_level_retrains_nothing(clone: Clone) -> None:
    clone.write({**STUDY, "statistics": {**STUDY["statistics"], "confidence": 0.9}})
    assert set(stages_run(clone.repro("--dry"))) == {"ledger", "aggregate"}


def test_another_score_makes_the_report_stale_and_no_run(clone: Clone) -> None:
    path = clone.folder / "stages/study/scores.py"
    before = path.read_text()
    entry = '    "log_loss": Score('
    assert entry in before
    path.write_text(before.replace(entry, '    "kappa": Score("kappa", "", accuracy, lambda truth: 0.0),\n' + entry))
    assert stages_run(clone.repro("--dry")) == ["aggregate"]
    clone.write({**STUDY, "comparisons": [{"a": "mlp", "b": "cnn", "score": "kappa", "margin": 0.1}]})
    assert set(stages_run(clone.repro())) == {"ledger", "aggregate"}
    assert (clone.folder / paths.TABLES / "comparisons_kappa.csv").exists()


def test_mlflow_has_a_parent_run_for_each_variant_and_a_child_run_for_each_seed(clone: Clone) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags["role"] == "variant"]
    children = [run for run in runs if run.data.tags["role"] == "seed"]
    assert sorted(run.data.tags["variant"] for run in parents) == sorted(STUDY["variants"])
    assert len(children) == SEEDS * len(STUDY["variants"])
    cnn = next(run for run in children if run.data.tags["variant"] == "cnn" and run.data.tags["seed"] == "1")
    scores = pd.read_csv(clone.folder / paths.scores_path("cnn")).set_index("seed")
    assert cnn.data.metrics["test_accuracy"] == pytest.approx(scores.loc[1, "test_accuracy"])
    curve = client.get_metric_history(cnn.info.run_id, "val_loss")
    assert [point.step for point in curve] == list(range(int(scores.loc[1, "epochs"])))
    assert {file.path for file in client.list_artifacts(cnn.info.run_id)} == {"run.json", "model.keras"}


def test_an_additional_seed_trains_one_run_and_keeps_the_bits_of_the_others(clone: Clone) -> None:
    before = clone.model_digests()
    clone.write({**STUDY, "variants": variants_with("mlp", seeds=3)})
    output = clone.repro("train@mlp")
    assert "3 runs, 2 of them finished before" in output
    after = clone.model_digests()
    assert after.pop("models/mlp/2/model.keras")
    assert after == before


def delete_runs(clone: Clone, variant: str) -> None:
    """Delete the runs of a variant, and the cache from which the stage train could restore them."""
    shutil.rmtree(clone.folder / ".dvc/cache")
    shutil.rmtree(clone.folder / "models" / variant)


@pytest.mark.slow
def test_after_a_kill_the_next_repro_finishes_training_with_the_same_bits(clone: Clone) -> None:
    whole = {name: digest for name, digest in clone.model_digests().items() if name.startswith("models/cnn")}
    delete_runs(clone, "cnn")
    process = subprocess.Popen(
        ["dvc", "repro", "--single-item", "train@cnn"],
        cwd=clone.folder,
        env={**clone.environment(), "STUDY_WORKERS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    # One run of two is written; the other is under way.
    assert any("[1/2]" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    output = clone.repro("--single-item", "train@cnn")
    assert "2 runs, 1 of them finished before" in output
    assert {name: digest for name, digest in clone.model_digests().items() if name.startswith("models/cnn")} == whole


def test_a_damaged_model_file_is_trained_again_with_the_same_bits(clone: Clone) -> None:
    path = clone.folder / paths.run_path("mlp", 0) / "model.keras"
    valid = path.read_bytes()
    path.unlink()  # DVC's cache may share the file's bytes
    path.write_bytes(valid[:-100])
    scores = clone.folder / paths.scores_path("mlp")
    scores.unlink()  # or what was evaluated would be kept
    refused = clone.run(sys.executable, "-m", "stages.evaluate", "mlp")
    assert refused.returncode == 1
    assert "models/mlp/0/model.keras is damaged" in refused.stderr
    clone.repro("--single-item", "train@mlp")
    assert path.read_bytes() == valid
    clone.repro()
    assert scores.exists()


def test_results_without_one_of_their_seeds_are_an_error_that_names_the_files(clone: Clone) -> None:
    path = clone.folder / paths.scores_path("mlp")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    refused = clone.run(sys.executable, "-m", "stages.aggregate")
    assert refused.returncode == 1
    assert "metrics/runs/mlp/test.csv and metrics/runs/mlp/environments.csv are of different runs" in refused.stderr


def test_invalid_parameters_are_named_and_nothing_is_run(clone: Clone) -> None:
    before = clone.model_digests()
    clone.write({**STUDY, "seeds": [0, 1], "variants": variants_with("mlp", epochs="many", seeds=9)})
    refused = clone.run(sys.executable, "-m", "stages.train", "mlp")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    for named in ("seeds: unknown key", "variants.mlp.epochs"):
        assert named in refused.stderr
    assert clone.model_digests() == before


@pytest.mark.parametrize(
    "change", [{"chains": {"layers": ["mlp", "cmm"]}}, {"split": {"dev_fraction": 1.5, "seeds": 8}}]
)
def test_a_repro_with_invalid_parameters_keeps_every_output(clone: Clone, change: dict[str, Any]) -> None:
    def outputs() -> dict[str, str]:
        found_files = [path for name in ("data", "models", "metrics") for path in (clone.folder / name).rglob("*")]
        return {str(path): files.digest(path.read_bytes()) for path in found_files if path.is_file()}

    before = outputs()
    clone.write({**STUDY, **change})
    refused = clone.run("dvc", "repro")
    assert refused.returncode != 0
    assert "params.yaml is not valid" in refused.stderr
    assert outputs() == before


def test_a_table_or_figure_of_an_earlier_study_is_deleted(clone: Clone) -> None:
    clone.write({**STUDY, "comparisons": []})
    clone.repro()
    left = {path.name for folder in (paths.TABLES, paths.PLOTS) for path in (clone.folder / folder).iterdir()}
    assert {"approaches.csv", "approaches.png"} <= left
    assert not {"comparisons.csv", "comparisons.md", "comparisons.png", "pair_mlp_cnn.csv", "pair_mlp_cnn.png"} & left


@pytest.mark.slow
def test_a_recipe_that_is_restored_is_not_trained_again(clone: Clone) -> None:
    before = clone.model_digests()
    clone.write({**STUDY, "variants": variants_with("mlp", units=[9], seeds=1)})
    clone.repro("train@mlp")
    assert clone.model_digests() != before
    clone.write(STUDY)
    assert f"{SEEDS} runs, {SEEDS} of them finished before" in clone.repro("train@mlp")
    assert clone.model_digests() == before


def test_an_edited_comment_trains_nothing(clone: Clone) -> None:
    models = clone.model_digests()
    add_line(clone, "stages/recipes/ridge.py", line="# one more comment")
    assert stages_run(clone.repro()) == ["code"]
    assert clone.model_digests() == models


@pytest.mark.slow
def test_all_processes_end_with_a_killed_repro(clone: Clone) -> None:
    delete_runs(clone, "cnn")
    for shell in ("/bin/bash", "/bin/sh"):  # bash leaves its place to the stage's command; Debian's sh waits for it
        with subprocess.Popen(
            ["dvc", "repro", "--single-item", "train@cnn"],
            cwd=clone.folder,
            env={**clone.environment(), "STUDY_WORKERS": "2", "SHELL": shell},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert any("0 of them finished before" in line for line in process.stdout)
            process.kill()
            printed, _ = process.communicate(timeout=60)  # until every process with this output has ended
        assert "[1/2]" not in printed
