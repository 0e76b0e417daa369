"""What `dvc status` says, as stages that are stale and files that only are not here."""

import sys
from pathlib import Path
from typing import Any

import pytest

from many_seeds.errors import UserError
from stages.study.params import Params
from tests.conftest import STUDY
from tests.support.pipeline import Clone
from tools import stale

NOT_HERE = [
    {"changed deps": {"data/train.npz": "deleted"}},
    {"changed outs": {"models/plain": "not in cache"}},
]
FAMILY = {"changed deps": {"stages/recipes/network.py": "modified"}}


def test_what_is_only_not_here_is_not_stale() -> None:
    assert stale.reasons({"train@plain": NOT_HERE}) == {}
    assert stale.missing({"train@plain": NOT_HERE}) == ["models/plain"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (FAMILY, "stages/recipes/network.py is modified"),
        ({"changed deps": {"params.yaml": {"variants.plain": "modified"}}}, "variants.plain is modified"),
        ({"changed deps": {"params.yaml": {"variants.plain.seeds": "new"}}}, "variants.plain.seeds is new"),
        ({"changed outs": {"metrics/report.html": "modified"}}, "its result metrics/report.html was modified"),
        ("changed command", "changed command"),
    ],
)
def test_a_stale_stage_says_why(part: Any, said: str) -> None:
    assert stale.reasons({"train@plain": [part, *NOT_HERE]}) == {"train@plain": [said]}


def test_a_result_that_is_here_but_is_not_the_recorded_one_is_not_taken_for_missing() -> None:
    """As after a pull of somebody else's results, with one's own models still there."""
    own = {
        "train@plain": [{"changed outs": {"models/plain": "not in cache"}}],
        "evaluate@plain": [{"changed deps": {"models/plain": "modified"}}],
    }
    assert stale.reasons(own)["train@plain"] == ["its result models/plain is another than was recorded"]


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
def test_what_a_stale_stage_is_followed_by_is_named(edited: list[str], expected: list[str], study: Params) -> None:
    two = study.model_copy(update={"variants": {name: study.variants[name] for name in ("ridge", "plain")}})
    assert stale.following(edited, stale.all_stages(two)) == expected


def test_a_study_whose_files_are_all_as_locked_is_not_stale(study: Params) -> None:
    assert stale.report(study, {}) == "Nothing is stale: the results belong to the code and the parameters."


def test_the_models_that_are_not_here_are_counted_and_the_way_on_is_named(study: Params) -> None:
    said = stale.report(study, {"train@plain": [*NOT_HERE, FAMILY]})
    assert "train@plain: stages/recipes/network.py is modified" in said
    assert "then too: evaluate@plain, aggregate" in said
    assert "Not in this workspace: the models of 1 variant(s)." in said
    assert "dvc repro --allow-missing" in said


@pytest.fixture
def unpacked(tmp_path: Path) -> Clone:
    """A ZIP of the repository, unpacked: a copy that git does not know."""
    clone = Clone(tmp_path)
    (clone.folder / ".git").rename(clone.folder / "git")
    return clone


def test_what_ran_before_the_results_that_it_uses_and_what_never_ran_is_named(
    study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody has committed a training and not its evaluation, in a clone that has no models to tell by."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "stages: {train@plain: {outs: [{path: models/plain, md5: new}]}, "
        "evaluate@plain: {deps: [{path: models/plain, md5: old}, {path: stages/evaluate, md5: same}]}, "
        "evaluate@gone: {deps: [{path: models/plain, md5: old}]}}"  # of a variant that the study has no more
    )
    monkeypatch.setattr(stale, "_dvc_status", lambda: {"train@plain": NOT_HERE, "train@mine": [FAMILY]})
    found = stale.reasons(stale.status(study, lock))
    assert found == {"train@mine": ["not run yet"], "evaluate@plain": ["models/plain is of a later run"]}


@pytest.mark.parametrize("damaged", ["", "stages:\n", "<<<<<<< ours\nstages: {}\n=======\n", "schema: '2.0'\n"])
def test_a_damaged_lock_is_named(damaged: str, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a merge without the driver leaves it."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(damaged)
    monkeypatch.setattr(stale, "_dvc_status", dict)
    with pytest.raises(UserError, match=f"^{lock} "):
        stale.status(study, lock)


def test_a_stage_of_former_data_says_nothing_about_the_data_that_are_here(
    study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone to which somebody has copied the data and not DVC's cache."""
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "stages: {split: {outs: [{path: data/train.npz, md5: new}, {path: data/dev.npz, md5: new}]}, "
        "train@plain: {deps: [{path: data/train.npz, md5: old}]}}"
    )
    data = ("data/train.npz", "data/dev.npz")  # of which the former training had no such dev split
    said = {
        "split": [{"changed outs": dict.fromkeys(data, "not in cache")}],
        "train@plain": [{"changed deps": dict.fromkeys(data, "modified")}],
    }
    monkeypatch.setattr(stale, "_dvc_status", lambda: said)
    found = stale.reasons(stale.status(study, lock))
    assert found == {"train@plain": ["data/dev.npz is of a later run", "data/train.npz is of a later run"]}


def test_without_git_the_way_out_is_named_and_is_one(unpacked: Clone) -> None:
    refused = unpacked.run(sys.executable, "-m", "tools.stale")
    assert refused.returncode == 1
    (way_out,) = [line for line in refused.stderr.splitlines() if "no_scm" in line]
    assert unpacked.run(*way_out.partition(": ")[2].split()).returncode == 0
    said = unpacked.run(sys.executable, "-m", "tools.stale")
    assert said.returncode == 0, said.stderr


def test_a_wrong_value_is_named_where_neither_data_nor_models_are(unpacked: Clone) -> None:
    (unpacked.folder / "params.yaml").write_text(STUDY.replace("dev_fraction: 0.2", "dev_fraction: 1.5"))
    refused = unpacked.run(sys.executable, "-m", "tools.stale")
    assert refused.returncode == 1
    assert "split.dev_fraction" in refused.stderr
