"""Certificates: results with the same bits get one; a difference is printed, and its variant stays stale."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from many_seeds.errors import UserError
from stages.aggregate.runs import read_runs
from stages.aggregate.sections import environments as report_environments
from stages.code.stage import variant_environments
from stages.recipes import ridge
from stages.study import dvc, files, params, paths
from stages.study.data import Data
from stages.study.params import Params
from stages.study.provenance import environments, families
from stages.study.provenance.environments import CERTIFIED, Environment, canonical, read_certificates
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import read_results
from tests.conftest import STUDY as DIGITS
from tests.support.pipeline import STUDY, Clone, stages_run
from tests.support.runs import planned
from tools.certify import __main__ as command
from tools.certify import old, retrained, sample
from tools.certify.certificates import append
from tools.certify.old import OldRun
from tools.certify.outcomes import difference, recorded_outcome, same_weights
from tools.certify.retrained import FOLDER
from tools.certify.run import certify

BFLOAT16 = "Another processor; amx_bf16 avx512_bf16"


@pytest.fixture
def other_code(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study after an edit of the recipes that changed no bit: all digests of code differ."""
    digest = families.code_digest
    monkeypatch.setattr(families, "code_digest", lambda family, *folder: digest(family, *folder)[::-1])
    for name in command.ENVIRONMENT:
        monkeypatch.setenv(name, os.environ.get(name, ""))  # restored after the test
    monkeypatch.setenv("STUDY_WORKERS", "1")  # in this process, which has imported TensorFlow already
    monkeypatch.chdir(evaluated)
    return evaluated


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the command."""
    monkeypatch.setattr("sys.argv", ["certify", *arguments])
    try:
        command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def sampled(study: Params, variant: str) -> int:
    """The sampled seed of a variant."""
    (check,) = sample.select_checks(study, [variant], 1, everything=False)
    (seed,) = check.seeds
    return seed


def test_without_changes_there_is_nothing_to_certify(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in command.ENVIRONMENT:
        monkeypatch.setenv(name, "")
    assert run_command(monkeypatch) == 0
    assert capsys.readouterr().out.startswith("Nothing to certify")
    assert not FOLDER.exists()


def test_the_same_bits_by_other_code_get_a_certificate_and_are_checked_once(
    other_code: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for name in ("models", "metrics") for path in Path(name).rglob("*.*")}
    seeds = [sampled(study, name) for name in ("ridge", "plain")]
    assert run_command(monkeypatch, "ridge", "plain") == 0
    output = capsys.readouterr().out
    assert "A sample of 2 of 4 runs was compared: a difference in another run would not be found." in output
    assert "Next: `dvc repro --allow-missing`, which" in output
    assert "then `git add --all` and a commit" in output
    table = read_certificates()
    assert table["variant"].tolist() == ["ridge", "plain"]
    assert table["part"].tolist() == ["train", "train"]
    assert table["seeds"].tolist() == seeds
    assert table["of"].tolist() == [2, 2]
    assert table["how"].tolist() == ["trained here"] * 2
    assert table["processor"].tolist() == [environments.processor()] * 2
    recorded = Environment.parse(read_results("ridge").environments["environment"][0])
    here = environments.installed("train", "ridge")
    assert canonical(variant_identity(study.recipe("ridge"), study), "train", here, table) == recorded != here
    assert {path: path.read_bytes() for path in before} == before

    assert run_command(monkeypatch, "ridge", "plain") == 0
    assert capsys.readouterr().out.startswith("Nothing to certify")
    trained = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.keras")}
    assert run_command(monkeypatch, "ridge", "--all") == 0
    assert "ridge: train and evaluate the same" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.keras")} == trained
    assert len(read_certificates()) == 2


def test_a_kind_of_processor_that_makes_the_recorded_bits_is_written_down_once_so_that_it_may_add_runs(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "depends_on_processor", lambda recipe: True)
    monkeypatch.setenv("STUDY_WORKERS", "1")
    for name in command.ENVIRONMENT:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    table = read_results("plain").environments
    files.write_table(paths.environments_path("plain"), table.assign(processor="not recorded"))
    recipe = study.recipe("plain")
    identity = variant_identity(recipe, study)
    objection = environments.processor_objection("plain", identity, recipe)
    assert objection is not None
    advice = re.search(r'`make certify ARGS="(.*)"`', objection)
    assert advice is not None
    for _ in range(2):
        assert run_command(monkeypatch, *advice[1].split()) == 0
        (row,) = read_certificates().itertuples()
        assert (row.variant, row.environment, row.processor) == ("plain", row.same_as, environments.processor())
    assert environments.processor_objection("plain", identity, recipe) is None
    sentence = "training gives the same bits (1 of 2 seeds compared, trained here, on "
    assert any(sentence in text for text in report_environments.paragraphs(read_runs(study, ["plain"]), study))


def edit_curve(seed: int) -> str:
    table = pd.read_csv(paths.curves_path("plain"))
    row = table.index[(table["seed"] == seed) & (table["epoch"] == 1)][0]
    table.loc[row, "loss"] = 0.5
    files.write_table(paths.curves_path("plain"), table)
    return "curves.csv, epoch 1, loss: 0.5 recorded, "


def edit_score(seed: int) -> str:
    table = pd.read_csv(paths.scores_path("plain"), dtype={"key": str})
    table.loc[table["seed"] == seed, "test_loss"] = 0.25
    files.write_table(paths.scores_path("plain"), table)
    return "test.csv, test_loss: 0.25 recorded, "


def edit_label(seed: int) -> str:
    arrays = files.read_arrays(paths.predictions_path("plain"))
    arrays["labels"][seed, 17] = (arrays["labels"][seed, 17] + 1) % 10
    files.write_arrays(paths.predictions_path("plain"), compressed=True, **arrays)
    return f"label of test image 17: {arrays['labels'][seed, 17]} recorded, "


def edit_calibration(seed: int) -> str:
    table = pd.read_csv(paths.calibration_path("plain"))
    row = table.index[table["seed"] == seed][-1]
    table.loc[row, "images"] += 1
    files.write_table(paths.calibration_path("plain"), table)
    return f"calibration.csv, bin {table.loc[row, 'bin']}, images: {table.loc[row, 'images']} recorded, "


def edit_model(seed: int) -> str:
    table = read_results("plain").environments
    table.loc[table["seed"] == seed, "model"] = "0" * 64
    files.write_table(paths.environments_path("plain"), table)
    return "model.keras, SHA-256: 000000000000… recorded, "


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps build/certify from test to test."""
    return tmp_path_factory.mktemp("certify")


@pytest.mark.parametrize("edit_result", [edit_curve, edit_score, edit_label, edit_calibration, edit_model])
def test_an_edited_result_of_the_sampled_seed_is_found_and_gets_no_certificate(
    edit_result: Callable[[int], str],
    other_code: Path,
    trained: Path,
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(retrained, "FOLDER", trained)
    seed = sampled(study, "plain")
    expected = edit_result(seed)
    assert run_command(monkeypatch, "plain", "ridge") == 1
    output = capsys.readouterr().out
    assert f"plain stays stale: seed {seed}: {expected}" in output
    assert "nothing that is certified, and trains or evaluates again what stays stale: plain; then `git add" in output
    assert read_certificates()["variant"].tolist() == ["ridge"]  # the other variant is checked all the same


def test_labels_that_differ_are_counted(other_code: Path, study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    one = recorded_outcome("plain", 0, study.recipe("plain").curve, "not recorded")
    assert difference(one, one) is None
    assert one.labels is not None
    other = replace(one, labels=(one.labels + 1) % 10)
    assert f"label of test image 0: {one.labels[0]} recorded, {(one.labels[0] + 1) % 10} here; 360 of 360" in str(
        difference(one, other)
    )


def test_runs_of_batched_seeds_are_listed_as_not_checked_and_nothing_is_trained(
    other_code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_results("plain").environments
    table["environment"] = table["environment"] + " executor=abc"
    files.write_table(paths.environments_path("plain"), table)
    assert run_command(monkeypatch, "plain") == 0
    output = capsys.readouterr().out
    assert "plain, train: not checked: its runs were trained as batched seeds on a GPU" in output
    assert not CERTIFIED.exists()
    assert not FOLDER.exists()


def test_results_of_another_recipe_are_not_compared(
    other_code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params.PARAMS.write_text(DIGITS.replace("units: [8]", "units: [9]"))
    assert run_command(monkeypatch, "plain") == 0
    assert "it is a run of other parameters or data" in capsys.readouterr().out
    assert not FOLDER.exists()


def test_missing_data_are_an_error_with_the_command_that_makes_them(other_code: Path) -> None:
    shutil.rmtree("data")
    study = params.load()
    with pytest.raises(UserError, match="run `dvc repro split`"):
        certify(study, sample.select_checks(study, ["ridge"], 1, everything=False))


def test_a_plan_lists_the_runs_and_trains_nothing(
    other_code: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--plan") == 0
    output = capsys.readouterr().out
    assert f"plain (train): seed {sampled(study, 'plain')} of 2, about " in output
    assert "the code in stages/recipes" in output
    assert "made on" not in output
    table = read_results("plain").environments
    for processor, text in (("not recorded", "a processor that is not recorded"), ("X; none", "X; none")):
        files.write_table(paths.environments_path("plain"), table.assign(processor=processor))
        assert run_command(monkeypatch, "plain", "--plan") == 0
        output = capsys.readouterr().out
        assert f"plain: made on {text}\nIf bits of these differ, the old code" in output
    assert not FOLDER.exists()


def test_a_larger_sample_contains_the_smaller_one(other_code: Path, study: Params) -> None:
    def drawn(number: int | None) -> tuple[int, ...]:
        (check,) = sample.select_checks(study, ["ridge"], 1, everything=False)
        return sample.draw("ridge", check.here, check.roots, range(20), number)

    assert set(drawn(1)) < set(drawn(3)) < set(drawn(None)) == set(range(20))
    others = {sample.draw(name, *_environments(study), range(20), 1) for name in ("a", "b", "c", "d")}
    assert len(others) > 1


def _environments(study: Params) -> tuple[sample.Environments, sample.Environments]:
    (check,) = sample.select_checks(study, ["ridge"], 1, everything=False)
    return check.here, check.roots


def test_runs_of_two_environments_are_both_sampled_and_certified_as_the_one_with_more_runs(
    other_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a merge of branches; the keys of the larger group stay as they are."""
    study = params.load()
    table = read_results("plain").environments
    first = Environment.parse(table["environment"][0])
    second = Environment("f" * 64, first.versions)
    table.loc[1, "environment"] = str(second)
    files.write_table(paths.environments_path("plain"), table)
    found = sample.select_checks(study, ["plain"], 1, everything=False)
    assert sorted(check.seeds for check in found) == [(0,), (1,)]
    here = environments.installed("train", "network")
    for check in found:
        append(
            "plain",
            check.identity,
            "train",
            here,
            check.roots["train"],
            check.seeds,
            check.counts["train"],
            "trained here",
        )
    certificates = read_certificates()
    assert not certificates["environment"].duplicated().any()
    ends = [canonical(found[0].identity, "train", each, certificates) for each in (here, first, second)]
    assert ends == [found[0].roots["train"]] * 3
    assert not append("plain", found[0].identity, "train", here, first, [0], 1, "trained here")


def test_weights_are_compared_without_the_version_of_keras(evaluated: Path) -> None:
    one, two, other = (Path(f"models/{name}/model.keras") for name in ("plain/0", "plain/1", "ridge/0"))
    assert same_weights(one, one)
    assert not same_weights(one, two)
    assert not same_weights(one, other)


SMALL: dict[str, Any] = {
    **STUDY,
    "variants": {
        name: {"family": "ridge", "seeds": 2, "grid_powers": [-10, top], "tolerance": 0.1}
        for name, top in (("one", 11), ("two", 12))
    },
    "approaches": {"one": "one"},
    "comparisons": [{"a": "one", "b": "two"}],
    "chains": {},
}
RECIPE = "stages/recipes/ridge.py"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Two variants, trained and evaluated, and committed."""
    clone = Clone.make(tmp_path_factory.mktemp("begun"), SMALL)
    clone.run("git", "config", "merge.ours.driver", "true")
    clone.repro("evaluate@one", "evaluate@two")
    clone.commit("A study of two variants")
    return clone


@pytest.fixture
def small(begun: Clone, tmp_path: Path) -> Clone:
    """A copy of it for one test."""
    return begun.copy(tmp_path / "small")


def edit(clone: Clone, old: str, new: str) -> None:
    path = clone.folder / RECIPE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def stale(clone: Clone) -> list[str]:
    """The stages of variants that `dvc repro` would run."""
    output = clone.repro("--dry", "evaluate@one", "evaluate@two")
    return [stage for stage in stages_run(output) if "@" in stage]


def rename_local(clone: Clone) -> None:
    edit(clone, "at_left", "left_loss")


def update_code(clone: Clone) -> None:
    """Run the stage `code`, as `dvc repro` does first."""
    done = clone.run(sys.executable, "-m", "stages.code")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def killed(begun: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy with a refactored recipe, in which certify was killed after a run, and then run again."""
    clone = begun.copy(tmp_path_factory.mktemp("killed") / "study")
    rename_local(clone)
    update_code(clone)
    assert {"train@one", "train@two"} <= set(stale(clone))
    command = [sys.executable, "-m", "tools.certify", "--seeds", "all"]
    with subprocess.Popen(
        command, cwd=clone.folder, env=clone.environment() | {"STUDY_WORKERS": "2"}, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any("[1/4]" in line for line in process.stderr)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    trained = {path: path.stat().st_mtime_ns for path in (clone.folder / FOLDER).rglob("run.json")}
    assert trained
    output = clone.run(*command)
    assert output.returncode == 0, output.stdout + output.stderr
    assert f"training {4 - len(trained)} runs" in output.stdout or len(trained) == 4
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    return clone


def test_after_a_refactoring_and_a_kill_certificates_train_nothing_and_a_withdrawn_one_makes_its_variant_stale(
    killed: Clone,
) -> None:
    update_code(killed)
    assert stale(killed) == []
    path = killed.folder / CERTIFIED
    table = pd.read_csv(path)
    assert table["variant"].tolist() == ["one", "two"]
    assert table["seeds"].tolist() == ["0 1", "0 1"]
    assert table["commit"][0].endswith("-dirty")
    files.write_table(path, table[table["variant"] != "two"])
    update_code(killed)
    files.write_table(path, table)
    assert {stage for stage in stale(killed) if stage.startswith("train")} == {"train@two"}


def as_of_another_processor(folder: Path, variant: str, processor: str) -> None:
    """Results as of another kind of processor, with other last digits."""
    curves = pd.read_csv(folder / paths.curves_path(variant))
    files.write_table(folder / paths.curves_path(variant), curves.assign(val_loss=curves["val_loss"] * 1.0001))
    rows = pd.read_csv(folder / paths.environments_path(variant))
    files.write_table(folder / paths.environments_path(variant), rows.assign(processor=processor, model="not recorded"))


def test_results_of_another_processor_are_compared_with_the_old_code_on_this_machine(small: Clone) -> None:
    other = BFLOAT16 if environments.kind(environments.processor()) != environments.kind(BFLOAT16) else "not recorded"
    as_of_another_processor(small.folder, "one", other)
    rename_local(small)
    path = small.folder / "stages/evaluate/outputs.py"
    path.write_text(path.read_text().replace("BATCH", "IMAGES_AT_ONCE"))
    small.commit("Rename two variables")
    output = small.run(sys.executable, "-m", "tools.certify", "one")
    assert output.returncode == 0, output.stdout + output.stderr
    table = pd.read_csv(small.folder / CERTIFIED)
    assert table["part"].tolist() == ["train", "evaluate"]
    assert table["how"].tolist() == ["old code here"] * 2
    assert table["commit"][0] == small.run("git", "rev-parse", "HEAD").stdout.strip()
    assert len(small.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert not list((small.folder / FOLDER).glob("code-*"))

    edit(small, "alpha=alpha,", "alpha=alpha * 1.01,")
    output = small.run(sys.executable, "-m", "tools.certify", "one")
    assert output.returncode == 1, output.stdout + output.stderr
    assert "one stays stale: seed " in output.stdout
    assert "by the old code" in output.stdout
    assert len(pd.read_csv(small.folder / CERTIFIED)) == 2


def test_certificates_of_two_branches_are_merged_and_both_variants_are_certified(
    small: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_local(small)
    update_code(small)
    small.commit("Rename a variable")
    monkeypatch.chdir(small.folder)
    here, study = environments.installed("train", "ridge"), params.load()
    edited = families.code_digest("ridge", small.folder / "stages/recipes")
    for name in ("one", "two"):
        small.run("git", "switch", "--quiet", "--create", f"branch_{name}", "HEAD")
        append(
            name,
            variant_identity(study.recipe(name), study),
            "train",
            replace(here, code=edited),
            here,
            [0],
            2,
            "trained here",
        )
        small.commit(f"A certificate of {name}")
        small.run("git", "switch", "--quiet", "-")
    for name in ("one", "two"):
        done = small.run("git", "merge", "--quiet", "--no-edit", f"branch_{name}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(pd.read_csv(CERTIFIED)["variant"]) == ["one", "two"]
    update_code(small)
    assert stale(small) == []


def test_the_old_code_trains_more_runs_than_one_argument_of_a_command_can_name(
    small: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.folder)
    study = params.load()
    (check,) = sample.select_checks(study, ["one"], 1, everything=True)
    quick = study.recipe("one").model_copy(update={"hidden_units": 2, "weight_sd": 0.2})
    runs = {
        (f"one_{number}", run.seed): replace(run, variant=f"one_{number}", recipe=quick)
        for number in range(35)
        for run in planned(study, "one")
    }
    folder = tmp_path.joinpath(*["long" * 60] * 8)
    assert len(runs) * len(str(folder)) > 2**17  # bytes, the limit of Linux
    found = old.train([replace(check, parts=("train",))], runs, folder)
    assert [*found] == [*runs]
    assert not [str(run) for run in found.values() if not isinstance(run, OldRun)]


def test_without_the_old_code_in_git_the_difference_is_reported(
    other_code: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_of_another_processor(other_code, "ridge", "not recorded")
    assert run_command(monkeypatch, "ridge") == 1
    output = capsys.readouterr().out
    assert "no commit in git's history has the code" in output
    assert "made on a processor that is not recorded" in output


def test_after_an_edit_that_changes_bits_the_variant_stays_stale(
    other_code: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solve = ridge.solve
    monkeypatch.setattr(ridge, "solve", lambda problem, alpha: solve(problem, alpha * 1.01))
    seed = sampled(study, "ridge")
    assert run_command(monkeypatch, "ridge", "--all") == 1
    output = capsys.readouterr().out
    assert f"ridge stays stale: seed {seed}: curves.csv, row 1, val_loss: " in output
    assert re.search("ridge +evaluate +0 of 2 +not compared", output), output
    assert not CERTIFIED.exists()
    assert [check.parts for check in sample.select_checks(study, ["ridge"], 1, everything=False)] == [("train",)]


def test_a_certificate_does_not_count_for_other_data_or_another_recipe_under_the_same_name(
    other_code: Path, study: Params
) -> None:
    """As after a merge of a study of other data, or if a recipe is edited and later set again to what it was."""
    certify(study, sample.select_checks(study, ["ridge"], 1, everything=False))
    here = str(environments.current("train", "ridge", environments.locked_versions()))
    made = read_results("ridge").environments["environment"][0]
    assert variant_environments(study)["train"]["ridge"] == made != here
    other_data = study.model_copy(update={"data": Data(name="mine", format="npz", train="own/train.npz")})
    recipe = study.recipe("ridge").model_copy(update={"tolerance": 4.0})
    other_recipe = study.model_copy(update={"variants": {**study.variants, "ridge": recipe}})
    for other in (other_data, other_recipe):
        assert variant_environments(other)["train"]["ridge"] == here


def test_images_of_other_data_than_those_of_the_parameters_are_not_certified(other_code: Path) -> None:
    """As after an edit of the section `data`, before `dvc repro split`."""
    lock = "stages: {fetch: {params: {params.yaml: {data: {name: mnist}}}}}"
    dvc.LOCK.write_text(lock)
    study = params.load()
    checks = sample.select_checks(study, ["ridge"], 1, everything=False)
    with pytest.raises(UserError, match=r"other values of data than params\.yaml: run `dvc repro split`"):
        certify(study, checks)
    dvc.LOCK.write_text("stages: {split: {params: {params.yaml: {split: {dev_fraction: 0.3, seeds: 8}}}}}")
    with pytest.raises(UserError, match=r"other values of split\.dev_fraction than params\.yaml"):
        certify(study, checks)
