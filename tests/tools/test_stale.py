"""Stale stages and missing files, from the output of `dvc status`."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.study import files
from stages.study.data import Data
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS, CODE
from stages.study.provenance.identities import variant_identity
from tests.conftest import ROOT, STUDY
from tests.support.pipeline import Clone
from tools import stale

MISSING = [
    {"changed deps": {"data/train.npz": "deleted"}},
    {"changed outs": {"models/plain": "not in cache"}},
]
FAMILY = {"changed deps": {"stages/recipes/network.py": "modified"}}


def test_a_stage_with_missing_files_only_is_not_stale() -> None:
    assert stale.reasons({"train@plain": MISSING}) == {}
    assert stale.missing({"train@plain": MISSING}) == ["models/plain"]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (FAMILY, "stages/recipes/network.py is modified"),
        ({"changed deps": {"params.yaml": {"variants.plain": "modified"}}}, "variants.plain is modified"),
        ({"changed deps": {"params.yaml": {"variants.plain.seeds": "new"}}}, "variants.plain.seeds is new"),
        ({"changed outs": {"metrics/report.html": "modified"}}, "its output metrics/report.html was modified"),
        ("changed command", "changed command"),
    ],
)
def test_a_stale_stage_has_reasons(part: Any, reason: str) -> None:
    assert stale.reasons({"train@plain": [part, *MISSING]}) == {"train@plain": [reason]}


def test_an_output_that_differs_from_the_recorded_one_is_not_a_missing_output() -> None:
    """As after a pull of new results, with the models of the old ones still in the workspace."""
    status = {
        "train@plain": [{"changed outs": {"models/plain": "not in cache"}}],
        "evaluate@plain": [{"changed deps": {"models/plain": "modified"}}],
    }
    assert stale.reasons(status)["train@plain"] == ["its output models/plain differs from the recorded one"]


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (["train@plain"], ["evaluate@plain", "aggregate"]),
        (["evaluate@plain"], ["aggregate"]),
        (["train@plain", "evaluate@plain"], ["aggregate"]),
        (["aggregate"], []),
        ([], []),
        (
            ["split"],
            [f"{stage}@{name}" for stage in ("train", "evaluate") for name in ("ridge", "plain")] + ["aggregate"],
        ),
    ],
)
def test_the_stages_that_follow_a_stale_stage_are_listed(edited: list[str], expected: list[str], study: Params) -> None:
    two = study.model_copy(update={"variants": {name: study.variants[name] for name in ("ridge", "plain")}})
    assert stale.following(edited, stale.all_stages(two)) == expected


def test_a_study_whose_files_are_all_as_recorded_is_not_stale(study: Params) -> None:
    assert stale.report(study, {}) == "Nothing is stale: the results match the code and the parameters."


def test_missing_models_are_counted_with_the_commands_that_restore_them(study: Params) -> None:
    report = stale.report(study, {"train@plain": [*MISSING, FAMILY]})
    assert "train@plain: stages/recipes/network.py is modified" in report
    assert "Also stale if their results change: evaluate@plain, aggregate" in report
    assert "Not in this workspace: the models of 1 variant(s)." in report
    assert "dvc repro --allow-missing" in report


OTHER = "made in another environment: the code in stages/evaluate/outputs.py, stages/evaluate/scores.py"
TRAINS, EVALUATES = "`dvc repro` trains them again", "`dvc repro` evaluates them again"


@pytest.mark.parametrize(
    ("stages", "texts"),
    [
        (["train@plain"], [TRAINS]),
        (["evaluate@plain"], [EVALUATES]),
        (["train@plain", "evaluate@plain"], [TRAINS]),
        (["train@ridge", "evaluate@plain"], [TRAINS, EVALUATES]),
    ],
)
def test_the_report_says_whether_stale_results_are_trained_or_evaluated_again(
    stages: list[str], texts: list[str], study: Params
) -> None:
    report = stale.report(study, {stage: [OTHER] for stage in stages})
    assert [text for text in (TRAINS, EVALUATES) if text in report] == texts


def test_a_stale_evaluation_without_models_is_not_advised_to_allow_missing_ones(study: Params) -> None:
    """DVC would end with "No such file or directory: models/plain"."""
    report = stale.report(study, {"train@plain": MISSING, "evaluate@plain": [OTHER]})
    assert "allow-missing" not in report
    assert report.endswith(
        "`dvc pull` downloads what was pushed to a remote. To evaluate plain again, its models are needed: without a "
        "remote, `dvc repro evaluate@plain` trains them first."
    )
    report = stale.report(study, {"train@plain": [*MISSING, OTHER], "evaluate@plain": [OTHER]})
    assert "allow-missing" in report  # trained again, so that the models are there
    two = {"train@plain": [{"changed outs": {"models/plain": "not in cache", "models/ridge": "not in cache"}}]}
    report = stale.report(study, {**two, "evaluate@ridge": [OTHER], "evaluate@plain": [OTHER]})
    assert report.endswith(
        "To evaluate ridge, plain again, their models are needed: without a remote, `dvc repro evaluate@ridge "
        "evaluate@plain` trains them first."
    )
    names = ["ridge", "random_features", "plain", "watched"]
    four = {f"train@{name}": [{"changed outs": {f"models/{name}": "not in cache"}}] for name in names}
    report = stale.report(study, four | {f"evaluate@{name}": [OTHER] for name in names})
    assert "To evaluate 4 variants again, their models are needed" in report
    assert "`dvc repro evaluate@VARIANT` trains them first" in report


def test_the_reason_names_what_differs_from_the_nearest_certified_environment(
    study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code was edited and certified, then Keras was replaced: only Keras is to be checked."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    here = environments.current("train", "ridge", environments.locked_versions())
    certified = replace(here, versions=here.versions | {"keras": "3.0.0"})
    first, second = (replace(certified, code=digit * 64) for digit in "12")
    identity = variant_identity(study.recipe("ridge"), study)
    rows = [
        dict.fromkeys(CERTIFIED_COLUMNS, "x")
        | {"variant": "ridge", "identity": identity, "part": "train", "environment": str(one), "same_as": str(other)}
        for one, other in ((second, first), (certified, second))
    ]
    files.write_table(CERTIFIED, pd.DataFrame(rows, columns=CERTIFIED_COLUMNS))
    lock = {"stages": {"code": {}, "train@ridge": {"params": {str(CODE): {"train.ridge": str(first)}}}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: {})
    only_ridge = study.model_copy(update={"variants": {"ridge": study.variants["ridge"]}})
    expected = f"made in another environment: keras 3.0.0 → {here.versions['keras']}"
    assert stale.status(only_ridge, tmp_path) == {"train@ridge": [expected]}


@pytest.fixture
def unpacked(tmp_path: Path) -> Clone:
    """The repository unpacked from a ZIP file, without git."""
    clone = Clone.make(tmp_path)
    (clone.folder / ".git").rename(clone.folder / "git")
    return clone


def test_a_stage_that_never_ran_or_whose_input_is_from_a_later_run_is_stale(
    study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone without models, if a training was committed without its evaluation."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "stages: {train@plain: {outs: [{path: models/plain, md5: new}]}, "
        "evaluate@plain: {deps: [{path: models/plain, md5: old}, {path: stages/evaluate, md5: same}]}, "
        "evaluate@gone: {deps: [{path: models/plain, md5: old}]}}"  # of a removed variant
    )
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: {"train@plain": MISSING, "train@mine": [FAMILY]})
    found = stale.reasons(stale.status(study, tmp_path))
    assert found == {"train@mine": ["not run yet"], "evaluate@plain": ["models/plain is from a later run"]}
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: {})
    assert stale.status(study, tmp_path, stages=["fetch", "split"]) == {}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"name": "digits"}, {}),
        ({"name": "scans", "format": "npz", "train": "own/scans.npz"}, {"fetch": ["own is modified"]}),
    ],
)
def test_files_in_the_folder_of_custom_data_make_only_a_study_of_custom_data_stale(
    data: dict[str, str],
    expected: dict[str, list[str]],
    study: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "dvc.lock").write_text("stages: {fetch: {deps: [{path: own, md5: old}]}}")
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: {"fetch": [{"changed deps": {"own": "modified"}}]})
    changed = study.model_copy(update={"data": Data.model_validate(data)})
    assert stale.reasons(stale.status(changed, tmp_path)) == expected


@pytest.mark.parametrize("damaged", ["", "stages:\n", "<<<<<<< ours\nstages: {}\n=======\n", "schema: '2.0'\n"])
def test_a_damaged_lock_is_an_error(
    damaged: str, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a merge without the merge driver."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(damaged)
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: {})
    with pytest.raises(UserError, match=f"^{lock} "):
        stale.status(study, tmp_path)


def test_a_run_on_former_data_does_not_make_the_stage_of_the_data_stale(
    study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone into which the data were copied without the cache of DVC."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "stages: {split: {outs: [{path: data/train.npz, md5: new}, {path: data/dev.npz, md5: new}]}, "
        "train@plain: {deps: [{path: data/train.npz, md5: old}]}}"
    )
    data = ("data/train.npz", "data/dev.npz")  # the former training had no such validation split
    status = {
        "split": [{"changed outs": dict.fromkeys(data, "not in cache")}],
        "train@plain": [{"changed deps": dict.fromkeys(data, "modified")}],
    }
    monkeypatch.setattr(stale, "_dvc_status", lambda *_: status)
    found = stale.reasons(stale.status(study, tmp_path))
    assert found == {"train@plain": ["data/dev.npz is from a later run", "data/train.npz is from a later run"]}


def test_without_git_the_error_has_a_command_that_solves_it(unpacked: Clone) -> None:
    refused = unpacked.run(sys.executable, "-m", "tools.stale")
    assert refused.returncode == 1
    (hint,) = [line for line in refused.stderr.splitlines() if "no_scm" in line]
    assert unpacked.run(*hint.partition(": ")[2].split()).returncode == 0
    done = unpacked.run(sys.executable, "-m", "tools.stale")
    assert done.returncode == 0, done.stderr


def test_an_invalid_parameter_is_an_error_in_a_clone_without_data_and_models(unpacked: Clone) -> None:
    (unpacked.folder / "params.yaml").write_text(STUDY.replace("dev_fraction: 0.2", "dev_fraction: 1.5"))
    refused = unpacked.run(sys.executable, "-m", "tools.stale")
    assert refused.returncode == 1
    assert "split.dev_fraction" in refused.stderr


def test_in_a_checkout_that_the_user_can_not_write_the_error_says_what_dvc_needs(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvc/config"):
        (tmp_path / name).write_text("")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    (tmp_path / ".dvc").chmod(0o555)
    code = "from pathlib import Path; from tools import stale; stale._dvc_status(Path(), [])"
    as_user = []
    if os.getuid() == 0:  # without the capability to ignore permissions
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, and root may write everywhere")
        as_user = ["setpriv", "--bounding-set=-dac_override"]
    command = [*as_user, sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / ".dvc").chmod(0o755)
    assert "Permission denied" in done.stderr
    assert "make the checkout and DVC's cache writable for you (docs/dvc.md, Share a checkout)" in done.stderr
    assert "Having any troubles" not in done.stderr
