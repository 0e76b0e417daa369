"""Two branches that each add a variant and its results, merged by git with the merge driver."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from many_seeds.errors import UserError
from stages.study import files, paths
from tests.support.pipeline import STUDY, Clone, stages_run
from tools import merge


def wide(top: int) -> dict[str, Any]:
    return {"family": "ridge", "seeds": 2, "grid_powers": [-10, top], "tolerance": 0.1}


@pytest.fixture
def begun(finished_clone: Clone, tmp_path: Path) -> Clone:
    """A study, committed with its scores, with the merge driver of `make setup`."""
    clone = finished_clone.copy(tmp_path / "study")
    python = clone.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert clone.run("make", "merging").returncode == 0
    clone.run("git", "tag", "begun")
    return clone


def with_more(**more: dict[str, Any]) -> dict[str, Any]:
    """The study with more variants, each in a comparison."""
    comparisons = [*STUDY["comparisons"], *({"a": "linear", "b": name} for name in more)]
    return {**STUDY, "variants": STUDY["variants"] | more, "comparisons": comparisons}


def test_two_branches_with_a_variant_each_are_merged_without_training(begun: Clone) -> None:
    for name, top in (("two", 12), ("three", 13)):
        begun.run("git", "switch", "--quiet", "--create", name, "begun")
        begun.write(with_more(**{name: wide(top)}))
        begun.repro()
        begun.commit(f"Variant {name}")
    for gone in ("models", ".dvc/cache"):  # as in a clone without the models of both
        shutil.rmtree(begun.folder / gone)

    merged = begun.run("git", "merge", "--quiet", "two")
    assert "both sides changed code, ledger, aggregate" in merged.stderr
    assert begun.run("git", "diff", "--name-only", "--diff-filter=U").stdout.split() == ["params.yaml"]

    begun.write(with_more(two=wide(12), three=wide(13)))
    assert sorted(stages_run(begun.repro("--allow-missing"))) == ["aggregate", "code", "ledger"]
    begun.run("git", "add", "--all")
    assert begun.run("git", "commit", "--quiet", "--no-edit").returncode == 0
    assert list(files.read_json(begun.folder / paths.SUMMARY)) == [*STUDY["variants"], "two", "three"]
    for name in ("two", "three"):
        assert begun.run("git", "diff", "--exit-code", name, "--", f"metrics/runs/{name}").returncode == 0
    assert "Nothing is stale" in begun.run(sys.executable, "-m", "tools.stale").stdout


def test_a_stage_that_both_sides_changed_is_ours_and_listed() -> None:
    base = {"train@one": 1, "train@two": 1, "train@old": 1, "aggregate": 1}
    ours = {"train@one": 2, "train@two": 1, "train@mine": 1, "aggregate": 2}
    theirs = {"train@one": 3, "train@two": 4, "train@old": 1, "train@yours": 5, "aggregate": 2}
    stages, conflicts = merge.merge(base, ours, theirs)
    assert stages == {"train@one": 2, "train@two": 4, "train@mine": 1, "aggregate": 2, "train@yours": 5}
    assert conflicts == ["train@one"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("metrics/comparisons.csv", "<<<<<<< HEAD\n", "the ledger of their side, line 1: expected the columns"),
        ("metrics/comparisons_1.csv", "<<<<<<< HEAD\n", "the ledger of their side, line 1: expected the columns"),
        ("metrics/seen.json", "<<<<<<< HEAD\n", "metrics/seen.json of their side should map"),
        ("metrics/code.yaml", "", "expected dvc.lock, metrics/comparisons.csv or metrics/seen.json to merge"),
    ],
)
def test_a_damaged_or_unknown_file_is_left_as_it_is(name: str, content: str, expected: str, tmp_path: Path) -> None:
    base, ours, theirs = (tmp_path / side for side in ("base", "ours", "theirs"))
    for path, text in ((base, ""), (ours, ""), (theirs, content)):
        path.write_text(text)
    with pytest.raises(UserError, match=expected):
        merge.merge_files(base, ours, theirs, Path(name))
    assert ours.read_text() == ""


def test_a_damaged_lock_stays_a_conflict(tmp_path: Path) -> None:
    sides = [tmp_path / side for side in ("base", "ours", "theirs")]
    for path, text in zip(sides, ("", "stages: {}\n", "<<<<<<< HEAD\nstages: {"), strict=True):
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tools.merge", *map(str, sides)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: dvc.lock can't be merged")
    assert sides[1].read_text() == "stages: {}\n"
