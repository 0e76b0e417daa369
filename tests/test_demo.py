"""The demo as a newcomer runs it, on the variants of the pipeline's test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import demo, params, records
from tests.test_pipeline import STUDY, Clone, stages_run

MARK = Path("metrics/report.html")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with results of its own, all committed: the demo copies what git has."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    (clone.folder / MARK).parent.mkdir()
    (clone.folder / MARK).write_text("the study's own report")
    clone.run("git", "add", "--all")
    answer = clone.run("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all")
    assert answer.returncode == 0, answer.stderr
    return clone


@pytest.fixture(scope="module")
def shown(committed: Clone) -> subprocess.CompletedProcess[str]:
    return committed.run(sys.executable, "-m", "stages.demo")


def test_the_demo_ends_with_the_table_of_the_approaches_and_the_place_of_the_figures(
    committed: Clone, shown: subprocess.CompletedProcess[str]
) -> None:
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for approach, variant in STUDY["approaches"].items():
        assert f"| {approach} | {variant} | {demo.SEEDS} |" in shown.stdout
    places = dict(re.findall(r"^(Tables|Figures|Report): +(.+)$", shown.stdout, re.MULTILINE))
    assert (committed.folder / places["Tables"] / "approaches.md").is_file()
    assert list((committed.folder / places["Figures"]).glob("*.png"))
    assert "digits" in (committed.folder / places["Report"]).read_text()


def test_the_demo_runs_every_stage_once_and_leaves_nothing_stale(
    committed: Clone, shown: subprocess.CompletedProcess[str]
) -> None:
    each = [f"{stage}@{variant}" for stage in ("train", "evaluate") for variant in STUDY["variants"]]
    assert sorted(stages_run(shown.stdout)) == sorted(["fetch", "split", *each, "aggregate"])
    again = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "repro", "--dry"],
        cwd=committed.folder / demo.FOLDER, env=committed.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert stages_run(again.stdout) == []


def test_the_demo_leaves_the_study_as_it_was(committed: Clone, shown: subprocess.CompletedProcess[str]) -> None:
    assert (committed.folder / MARK).read_text() == "the study's own report"
    assert committed.run("git", "status", "--porcelain").stdout == ""
    assert not (committed.folder / records.MODELS).exists()


def test_the_demo_has_all_variants_with_three_seeds_and_few_epochs() -> None:
    values = YAML(typ="safe").load((Path(__file__).parents[1] / params.PARAMS).read_text(encoding="utf-8"))
    shortened = demo.demo_params(values)
    assert list(shortened["variants"]) == list(values["variants"])
    assert {recipe["seeds"] for recipe in shortened["variants"].values()} == {3}
    assert {recipe["epochs"] for recipe in shortened["variants"].values() if "epochs" in recipe} == {demo.EPOCHS}


def test_a_command_of_the_demo_that_fails_is_named(committed: Clone) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "stages.demo"],
        cwd=committed.folder, env={**committed.environment(), "STUDY_WORKERS": "none"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert "-m stages.train --all` ended with status 1 in build/demo" in answer.stderr
    assert "STUDY_WORKERS should be a whole number from 1, received 'none'" in answer.stderr
