"""Seeds added until every comparison has a verdict, on the digits, through a real `dvc repro`."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.study import params
from tests.support.pipeline import Clone

ELM = {"family": "ridge", "seeds": 6, "grid_powers": [-14, 12], "tolerance": 8.0, "weight_sd": 0.2}
# One clearly better, a copy under another name, and one in between.
STUDY: dict[str, Any] = {
    "data": {"name": "digits"},
    "split": {"dev_fraction": 0.2, "seeds": 64},
    "variants": {
        "few": {**ELM, "hidden_units": 100, "seeds": 10},
        "twin": {**ELM, "hidden_units": 100},
        "more": {**ELM, "hidden_units": 180, "seeds": 10},
        "many": {**ELM, "hidden_units": 300},
    },
    "approaches": {"ELM": "few"},
    "comparisons": [{"a": "few", "b": "many"}, {"a": "few", "b": "twin"}, {"a": "few", "b": "more"}],
    "chains": {},
    "statistics": {"confidence": 0.95, "equivalence_margin": 1.0, "reproduction_margin": 0.1, "design": "open"},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The study, killed when the first results were printed and no comparison had a verdict; read-only."""
    clone = Clone.make(tmp_path_factory.mktemp("begun"), STUDY)
    killed_at("few → more", clone, sys.executable, "-m", "tools.settle")
    return clone


def killed_at(line: str, clone: Clone, *command: str) -> None:
    """Kill a command that has printed this, and check that it was still running."""
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env={**clone.environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = ""
    for text in process.stdout:
        output += text
        if line in text:
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, output


@pytest.fixture(scope="module")
def settled(begun: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The study after the same command without an interruption, and its output."""
    clone = begun.copy(tmp_path_factory.mktemp("settled") / "study")
    done = clone.run(sys.executable, "-m", "tools.settle")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "oneDNN" not in done.stderr  # a message of TensorFlow on some processors
    return clone, done.stdout


def seeds(clone: Clone) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.load(clone.folder / "params.yaml").variants.items()}


def results(clone: Clone, variant: str) -> dict[str, bytes]:
    """The results of a variant's runs that are in git."""
    folder = clone.folder / "metrics" / "runs" / variant
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_comparison_gets_a_verdict_with_seeds_for_its_variants_alone(settled: tuple[Clone, str]) -> None:
    clone, output = settled
    words = "better|worse|equivalent|undecided"
    verdicts = re.findall(rf"^few (?:→ )? *(\w+)\s+({words})\b", output, re.MULTILINE)  # in a line or two, by its width
    assert verdicts[-3:] == [("many", "better"), ("twin", "equivalent"), ("more", "better")]
    assert "3 of 3 comparisons have a verdict: 2 better, 1 equivalent" in output
    found = seeds(clone)
    # The comparison that needs most seeds decides for the shared variant; a fixed study has as many for all variants.
    assert found["few"] == found["more"] > found["many"] >= found["twin"] >= 6
    runs, fixed = re.findall(r"(\d+) runs in total; .* would be (\d+)", output)[0]
    assert int(runs) == sum(found.values()) < int(fixed) == 4 * found["more"]


def test_dvc_has_recorded_the_added_runs(settled: tuple[Clone, str]) -> None:
    clone, _ = settled
    status = clone.run("dvc", "status")
    assert "up to date" in status.stdout, status.stdout


def test_after_kills_a_clone_without_models_trains_the_new_seeds_of_one_comparison_to_the_same_results(
    begun: Clone, settled: tuple[Clone, str], tmp_path: Path
) -> None:
    clone = begun.copy(tmp_path / "study")
    for folder in ("models", ".dvc/cache"):
        shutil.rmtree(clone.folder / folder)
    command = sys.executable, "-m", "tools.settle", "--pairs", "few:more"
    for line in ("seeds, ", "validation accuracy"):  # before and while something is trained
        killed_at(line, clone, *command)
    done = clone.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = seeds(begun), seeds(clone)
    assert {name for name in after if after[name] != before[name]} == {"few", "more"}
    trained = {path.parent.name + "/" + path.name for path in (clone.folder / "models").glob("*/*") if path.is_dir()}
    assert trained == {f"{name}/{seed}" for name in ("few", "more") for seed in range(10, after[name])}
    # The other comparisons of the study need no other seeds of these two.
    assert {name: results(clone, name) for name in ("few", "more")} == {
        name: results(settled[0], name) for name in ("few", "more")
    }


def test_models_are_evaluated_before_more_are_trained(begun: Clone, tmp_path: Path) -> None:
    clone = begun.copy(tmp_path / "study")
    shutil.rmtree(clone.folder / "metrics" / "runs" / "twin")
    killed_at("  8  ", clone, sys.executable, "-m", "tools.settle", "--pairs", "few:twin")
    assert seeds(clone)["twin"] == 8
    assert results(clone, "twin").keys() == results(begun, "twin").keys()


def error_of(clone: Clone, *arguments: str) -> str:
    done = clone.run(sys.executable, "-m", "tools.settle", *arguments)
    assert done.returncode != 0
    return done.stderr


def test_an_unknown_comparison_or_an_invalid_budget_is_an_error(begun: Clone) -> None:
    assert "The comparisons are\n  few:many\n  few:twin\n  few:more" in error_of(begun, "--pairs", "few:none")
    assert "should be more than 0" in error_of(begun, "--hours", "0")
    assert "should be at least 1" in error_of(begun, "--most", "0")
