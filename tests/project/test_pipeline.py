"""The whole pipeline: `dvc repro` of a small study on the digits, in a clone of this checkout."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from stages.study import files, params, paths
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS, CODE
from stages.study.provenance.identities import variant_identity
from tests.support.pipeline import NETWORK, SEEDS, STUDY, Clone, stages_run


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.repro()
    return clone


@pytest.fixture
def edited(clone: Clone) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write another params.yaml for one test."""
    yield clone.write
    clone.write(STUDY)


def variants_with(name: str, **changes: Any) -> dict[str, Any]:
    return {**STUDY["variants"], name: {**STUDY["variants"][name], **changes}}


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


def test_another_confidence_level_retrains_nothing(clone: Clone, edited: Callable[[dict[str, Any]], None]) -> None:
    edited({**STUDY, "statistics": {**STUDY["statistics"], "confidence": 0.9}})
    assert set(stages_run(clone.repro("--dry"))) == {"ledger", "aggregate"}


def test_another_score_makes_the_report_stale_and_no_run(
    clone: Clone, edited: Callable[[dict[str, Any]], None]
) -> None:
    path = clone.folder / "stages/study/scores.py"
    before = path.read_text()
    entry = '    "log_loss": Score('
    assert entry in before
    try:
        path.write_text(
            before.replace(entry, '    "kappa": Score("kappa", "", accuracy, lambda truth: 0.0),\n' + entry)
        )
        assert stages_run(clone.repro("--dry")) == ["aggregate"]
        edited({**STUDY, "comparisons": [{"a": "mlp", "b": "cnn", "score": "kappa", "margin": 0.1}]})
        assert set(stages_run(clone.repro())) == {"ledger", "aggregate"}
        assert (clone.folder / paths.TABLES / "comparisons_kappa.csv").exists()
    finally:
        path.write_text(before)
        clone.write(STUDY)
        clone.repro()


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


def test_an_additional_seed_trains_one_run_and_keeps_the_bits_of_the_others(
    clone: Clone, edited: Callable[[dict[str, Any]], None]
) -> None:
    before = clone.model_digests()
    edited({**STUDY, "variants": variants_with("mlp", seeds=3)})
    output = clone.repro("train@mlp")
    assert "3 runs, 2 of them finished before" in output
    after = clone.model_digests()
    assert after.pop("models/mlp/2/model.keras")
    assert after == before


@pytest.fixture
def without_cache(clone: Clone) -> Iterator[None]:
    """No cache from which the stage train could restore deleted runs."""
    cache, hidden = clone.folder / ".dvc/cache", clone.folder / ".dvc/hidden"
    cache.rename(hidden)
    yield
    shutil.rmtree(cache, ignore_errors=True)
    hidden.rename(cache)


@pytest.mark.slow
def test_after_a_kill_the_next_repro_finishes_training_with_the_same_bits(clone: Clone, without_cache: None) -> None:
    whole = {name: digest for name, digest in clone.model_digests().items() if name.startswith("models/cnn")}
    shutil.rmtree(clone.folder / "models/cnn")
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
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    try:
        refused = clone.run(sys.executable, "-m", "stages.aggregate")
    finally:
        path.write_bytes(whole)
    assert refused.returncode == 1
    assert "metrics/runs/mlp/test.csv and metrics/runs/mlp/environments.csv are of different runs" in refused.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"variants": variants_with("mlp", seeds=0)}, "variants.mlp.seeds"),
        ({"variants": variants_with("mlp", seeds=9)}, "only 8 of split.seeds are drawn"),
        ({"seeds": [0, 1]}, "seeds: unknown key"),
        ({"split": {"dev_fraction": 1.5, "seeds": 8}}, "split.dev_fraction"),
        ({"variants": variants_with("mlp", epochs="many")}, "variants.mlp.epochs"),
    ],
)
def test_invalid_parameters_are_named_and_nothing_is_run(
    clone: Clone, edited: Callable[[dict[str, Any]], None], change: dict[str, Any], named: str
) -> None:
    before = clone.model_digests()
    edited({**STUDY, **change})
    refused = clone.run(sys.executable, "-m", "stages.train", "mlp")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert named in refused.stderr
    assert clone.model_digests() == before


@pytest.mark.parametrize(
    "change", [{"chains": {"layers": ["mlp", "cmm"]}}, {"split": {"dev_fraction": 1.5, "seeds": 8}}]
)
def test_a_repro_with_invalid_parameters_keeps_every_output(
    clone: Clone, edited: Callable[[dict[str, Any]], None], change: dict[str, Any]
) -> None:
    def outputs() -> dict[str, str]:
        found_files = [path for name in ("data", "models", "metrics") for path in (clone.folder / name).rglob("*")]
        return {str(path): files.digest(path.read_bytes()) for path in found_files if path.is_file()}

    clone.repro()  # whatever the tests before this one have left
    before = outputs()
    edited({**STUDY, **change})
    refused = clone.run("dvc", "repro")
    assert refused.returncode != 0
    assert "params.yaml is not valid" in refused.stderr
    assert outputs() == before


def test_a_table_or_figure_of_an_earlier_study_is_deleted(
    clone: Clone, edited: Callable[[dict[str, Any]], None]
) -> None:
    edited({**STUDY, "comparisons": []})
    clone.repro()
    left = {path.name for folder in (paths.TABLES, paths.PLOTS) for path in (clone.folder / folder).iterdir()}
    assert {"approaches.csv", "approaches.png"} <= left
    assert not {"comparisons.csv", "comparisons.md", "comparisons.png", "pair_mlp_cnn.csv", "pair_mlp_cnn.png"} & left


@pytest.mark.slow
def test_a_recipe_that_is_restored_is_not_trained_again(clone: Clone, edited: Callable[[dict[str, Any]], None]) -> None:
    clone.repro()
    before = clone.model_digests()
    edited({**STUDY, "variants": variants_with("mlp", units=[9], seeds=1)})
    clone.repro("train@mlp")
    assert clone.model_digests() != before
    edited(STUDY)
    assert f"{SEEDS} runs, {SEEDS} of them finished before" in clone.repro("train@mlp")
    assert clone.model_digests() == before


@pytest.fixture
def committed(clone: Clone) -> Clone:
    """The clone with its results up to date and committed."""
    clone.repro()
    clone.run("git", "add", "--all")
    commit = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty"]
    answer = clone.run(*commit, "-m", "all")
    assert answer.returncode == 0, answer.stderr
    return clone


@pytest.fixture
def fresh(committed: Clone, tmp_path: Path) -> Clone:
    """A clone of it by git, without data and models."""
    fresh = copy(committed)
    fresh.folder = tmp_path / "fresh"
    assert committed.run("git", "clone", "--quiet", ".", str(fresh.folder)).returncode == 0
    return fresh


@pytest.mark.slow
def test_a_fresh_clone_without_models_trains_a_new_variant_only(committed: Clone, fresh: Clone) -> None:
    fresh.write({**STUDY, "variants": {**STUDY["variants"], "mlp_narrow": {**NETWORK, "units": [8]}}})
    fresh.repro("split")
    ran = stages_run(fresh.repro("--allow-missing"))
    assert set(ran) == {"code", "ledger", "train@mlp_narrow", "evaluate@mlp_narrow", "aggregate"}
    summaries = [json.loads((each.folder / paths.SUMMARY).read_text()) for each in (committed, fresh)]
    assert summaries[1].pop("mlp_narrow")["seeds"] == SEEDS
    assert summaries[0] == summaries[1]


def stale(clone: Clone) -> set[str]:
    """The stages of a fresh clone whose code, parameters or inputs are not those of their results."""
    status = json.loads(clone.run("dvc", "status", "--json").stdout)
    return {
        stage
        for stage, changes in status.items()
        for kinds in changes
        for state in (kinds.get("changed deps") or {}).values()
        if state != "deleted"  # which is not here, and is not asked for
    }


def stale_by_code(clone: Clone) -> set[str]:
    """The same after the stage `code` has run."""
    assert stages_run(clone.repro("code")) in ([], ["code"])
    return stale(clone)


def of_variants(*stages: str) -> set[str]:
    return {f"{stage}@{variant}" for stage in stages for variant in STUDY["variants"]}


def add_line(clone: Clone, *names: str, line: str = "MORE = 1") -> None:
    for name in names:
        with (clone.folder / name).open("a") as file:
            file.write(f"\n{line}\n")


def test_in_a_fresh_clone_nothing_is_stale(fresh: Clone) -> None:
    assert stale(fresh) == set()
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == []


def test_in_a_fresh_clone_stale_names_the_stale_stages_and_the_reasons(fresh: Clone) -> None:
    assert "Nothing is stale" in fresh.run(sys.executable, "-m", "tools.stale").stdout
    add_line(fresh, "stages/recipes/ridge.py")
    lock = (fresh.folder / "dvc.lock").read_bytes()
    printed = fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert "train@linear: made in another environment: the code in stages/recipes" in printed
    assert "Also stale if their results change: evaluate@linear, aggregate" in printed
    assert "make certify" in printed
    assert "train@mlp" not in printed
    assert (fresh.folder / "dvc.lock").read_bytes() == lock


def test_edits_that_decide_no_result_make_nothing_stale(fresh: Clone) -> None:
    """Of schedulers, tracking, tools and shared modules, all at once."""
    decisive = {"recipes", "ledger", "aggregate", "fetch", "split"}
    found_files = sorted((fresh.folder / "stages").rglob("*.py"))
    names = [str(path.relative_to(fresh.folder)) for path in found_files]
    files_of_results = {"stages/evaluate/outputs.py", "stages/evaluate/scores.py"}
    files_of_results |= {f"stages/study/{name}.py" for name in ("comparisons", "races", "scores")}
    files_of_results |= {f"stages/study/records/{name}.py" for name in ("ledger_files", "seen")}
    files_of_results.add("stages/study/provenance/identities.py")
    edited = [name for name in names if name.split("/")[1] not in decisive and name not in files_of_results]
    assert {"stages/train/dispatch.py", "stages/evaluate/__main__.py", "stages/tracking/runs.py"} <= set(edited)
    add_line(fresh, *edited)
    assert "Nothing is stale" in fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert stale(fresh) == {"code"}  # which takes a second, and finds nothing new
    assert stages_run(fresh.repro("--allow-missing")) == ["code"]
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == []


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (["stages/recipes/ridge.py"], {"train@linear"}),
        (["stages/recipes/network.py", "stages/recipes/shared/augmentation.py"], {"train@mlp", "train@cnn"}),
        (["stages/recipes/shared/training.py", "stages/evaluate/scores.py"], of_variants("train", "evaluate")),
        (["stages/aggregate/report/page.py"], {"aggregate"}),
        (["stages/study/comparisons.py", "many_seeds/statistics/intervals.py"], {"ledger", "aggregate"}),
        (["many_seeds/ledger.py"], {"ledger", "aggregate"}),
    ],
)
def test_an_edit_of_code_makes_the_results_stale_that_it_decides(
    edited: list[str], expected: set[str], fresh: Clone
) -> None:
    add_line(fresh, *edited)
    printed = fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert {line.partition(":")[0] for line in printed.splitlines() if re.match(r"\w+(@\w+)?: ", line)} == expected
    assert stale_by_code(fresh) == expected


def test_an_edited_comment_in_code_that_decides_results_runs_the_stage_code_only(fresh: Clone) -> None:
    edited = ["stages/recipes/ridge.py", "stages/recipes/shared/fit.py", "stages/evaluate/scores.py"]
    add_line(fresh, *edited, line="# one more comment")
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == ["code"]
    assert stages_run(fresh.repro("--allow-missing")) == ["code"]
    assert stale(fresh) == set()


def test_a_certificate_keeps_the_results_of_one_variant_only(fresh: Clone) -> None:
    add_line(fresh, "stages/recipes/shared/training.py")
    code = fresh.folder / CODE
    made = files.yaml_values(code.read_text(), "before")["train"]
    assert stale_by_code(fresh) == of_variants("train")
    here = files.yaml_values(code.read_text(), "after")["train"]
    study = params.load(fresh.folder / "params.yaml")
    row = (
        "mlp",
        variant_identity(study.recipe("mlp"), study),
        "train",
        here["mlp"],
        made["mlp"],
        1,
        SEEDS,
        "a processor",
        "here",
        "f" * 40,
    )
    files.write_table(fresh.folder / CERTIFIED, pd.DataFrame([row], columns=CERTIFIED_COLUMNS))
    assert stale_by_code(fresh) == {"train@linear", "train@cnn", "aggregate"}  # the report names the certificate
    files.write_table(fresh.folder / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))
    assert stale_by_code(fresh) == of_variants("train")


def locked_keras(clone: Clone) -> str:
    (version,) = re.findall("^keras==(.*)$", (clone.folder / "requirements.lock").read_text(), re.MULTILINE)
    return str(version)


def test_another_locked_version_makes_every_variant_stale_and_stale_names_it(committed: Clone) -> None:
    path, kept = committed.folder / "requirements.lock", locked_keras(committed)
    before = path.read_text()
    path.write_text(before.replace(f"keras=={kept}", "keras==9.9.9"))
    try:
        printed = committed.run(sys.executable, "-m", "tools.stale").stdout
        first = stages_run(committed.repro("--dry"))
        committed.repro("code")
        dry = set(stages_run(committed.repro("--dry")))
    finally:
        path.write_text(before)
        committed.repro("code")
    for stage in of_variants("train", "evaluate"):
        assert f"{stage}: made in another environment: keras {kept} → 9.9.9\n" in printed
    assert "`make certify` checks a sample" in printed
    assert first == ["code"]
    assert of_variants("train", "evaluate") <= dry <= of_variants("train", "evaluate") | {"aggregate"}


@pytest.fixture
def other_keras(fresh: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The fresh clone with its data, with the metadata of another version of Keras."""
    fresh.repro("split")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import importlib.metadata\n"
        "version = importlib.metadata.version\n"
        "importlib.metadata.version = lambda name: '9.9.9' if name == 'keras' else version(name)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return fresh


@pytest.mark.slow
def test_another_installed_version_is_named_and_no_results_are_mixed(other_keras: Clone) -> None:
    change = f"trained in another environment than this one (keras {locked_keras(other_keras)} → 9.9.9)"
    printed = other_keras.run(sys.executable, "-m", "tools.stale").stdout
    assert f"linear, mlp, cnn: {change}" in printed
    assert "`make setup` installs the packages of requirements.lock" in printed
    assert "`dvc repro --force` trains them again" in printed
    plan = other_keras.run(sys.executable, "-m", "tools.settle", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.startswith("No seed would be added:\n")
    refused = other_keras.run(sys.executable, "-m", "tools.settle")
    assert refused.returncode == 1
    for text in (plan.stdout, refused.stderr):
        assert change in text
        assert "make certify" in text
    trained = other_keras.run("sh", "-c", f"{sys.executable} -m stages.train linear 2>&1").stdout
    assert trained.index(f"linear: {change}, and now anew") < trained.index("[1/2]")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": 8}, {"ledger", "train@mlp", "evaluate@mlp", "aggregate"}),
        ({"augment": {"shift": 2.0}, "dropout": 0.25}, {"ledger", "train@mlp", "aggregate"}),
    ],
    ids=["seeds", "other fields"],
)
def test_more_seeds_or_another_field_make_only_their_variant_stale(
    changes: dict[str, Any], expected: set[str], fresh: Clone
) -> None:
    fresh.write({**STUDY, "variants": variants_with("mlp", **changes)})
    assert stale_by_code(fresh) == expected


def test_a_new_family_makes_only_its_variant_stale(fresh: Clone) -> None:
    shutil.copy(fresh.folder / "stages/recipes/network.py", fresh.folder / "stages/recipes/mine.py")
    assert stale_by_code(fresh) == set()
    fresh.write({**STUDY, "variants": {**STUDY["variants"], "mine": {**NETWORK, "family": "mine"}}})
    assert stale_by_code(fresh) == {"ledger", "train@mine", "evaluate@mine", "aggregate"}


def test_an_edited_comment_trains_nothing(clone: Clone) -> None:
    clone.repro()
    path = clone.folder / "stages/recipes/ridge.py"
    before, models = path.read_text(), clone.model_digests()
    add_line(clone, "stages/recipes/ridge.py", line="# one more comment")
    try:
        assert stages_run(clone.repro()) == ["code"]
    finally:
        path.write_text(before)
    assert clone.model_digests() == models


@pytest.mark.slow
def test_all_processes_end_with_a_killed_repro(clone: Clone, without_cache: None) -> None:
    shutil.rmtree(clone.folder / "models/cnn")
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
    clone.repro("--single-item", "train@cnn")
