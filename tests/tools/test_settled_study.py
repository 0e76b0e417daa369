"""Seeds added until questions are decided, on the digits, through a real `dvc repro`."""

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


class OneProcess(Clone):
    """Runs of a second each take longer to hand out than to train."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "STUDY_WORKERS": "1"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The study killed at its first look, when nothing has a verdict; not to be written to."""
    clone = OneProcess(tmp_path_factory.mktemp("begun"))
    clone.write(STUDY)
    killed_at("few  more  ", clone, sys.executable, "-m", "tools.settle")
    return clone


def killed_at(line: str, clone: Clone, *command: str) -> None:
    """Kill what has said this, and make sure that it was still at work."""
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env={**clone.environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for text in process.stdout:
        said += text
        if line in text:
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, said


@pytest.fixture(scope="module")
def settled(begun: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The same settled, without a break, and what was said."""
    clone = copied(begun, tmp_path_factory.mktemp("settled"))
    answer = clone.run(sys.executable, "-m", "tools.settle")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "oneDNN" not in answer.stderr  # a greeting of TensorFlow's, on processors that it is faster on
    return clone, answer.stdout


def copied(clone: Clone, folder: Path) -> Clone:
    other = object.__new__(OneProcess)
    other.folder = folder / "study"
    shutil.copytree(clone.folder, other.folder, symlinks=True)
    return other


def seeds(clone: Clone) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.load(clone.folder / "params.yaml").variants.items()}


def results(clone: Clone, variant: str) -> dict[str, bytes]:
    """What is in git of a variant's runs."""
    folder = clone.folder / "metrics" / "runs" / variant
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_comparison_gets_a_verdict_with_seeds_for_its_variants_alone(settled: tuple[Clone, str]) -> None:
    clone, said = settled
    verdicts = re.findall(r"^few +(\w+) +(\w+) ", said, re.MULTILINE)
    assert verdicts[-3:] == [("many", "better"), ("twin", "equivalent"), ("more", "better")]
    assert "3 of 3 comparisons have a verdict: 2 better, 1 equivalent" in said
    found = seeds(clone)
    # The hungriest question decides for the variant that they share; a fixed study gives as many to all.
    assert found["few"] == found["more"] > found["many"] >= found["twin"] >= 6
    runs, fixed = re.findall(r"(\d+) runs in all; .* would be (\d+)", said)[0]
    assert int(runs) == sum(found.values()) < int(fixed) == 4 * found["more"]


def test_dvc_has_recorded_what_was_settled(settled: tuple[Clone, str]) -> None:
    clone, _ = settled
    status = clone.run("dvc", "status")
    assert "up to date" in status.stdout, status.stdout


def test_a_clone_without_models_killed_at_any_moment_trains_only_new_seeds_of_one_question_to_the_same_end(
    begun: Clone, settled: tuple[Clone, str], tmp_path: Path
) -> None:
    own = copied(begun, tmp_path)
    for folder in ("models", ".dvc/cache"):
        shutil.rmtree(own.folder / folder)
    command = sys.executable, "-m", "tools.settle", "--pairs", "few:more"
    for line in ("seeds, ", "validation accuracy"):  # before and while something is trained
        killed_at(line, own, *command)
    answer = own.run(*command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    before, after = seeds(begun), seeds(own)
    assert {name for name in after if after[name] != before[name]} == {"few", "more"}
    trained = {path.parent.name + "/" + path.name for path in (own.folder / "models").glob("*/*") if path.is_dir()}
    assert trained == {f"{name}/{seed}" for name in ("few", "more") for seed in range(10, after[name])}
    # The questions of the whole study leave these two no other seeds.
    assert {name: results(own, name) for name in ("few", "more")} == {
        name: results(settled[0], name) for name in ("few", "more")
    }


def test_models_that_were_not_evaluated_are_before_more_are_trained(begun: Clone, tmp_path: Path) -> None:
    own = copied(begun, tmp_path)
    shutil.rmtree(own.folder / "metrics" / "runs" / "twin")
    killed_at("  8  ", own, sys.executable, "-m", "tools.settle", "--pairs", "few:twin")
    assert seeds(own)["twin"] == 8
    assert results(own, "twin").keys() == results(begun, "twin").keys()


def refused(clone: Clone, *arguments: str) -> str:
    answer = clone.run(sys.executable, "-m", "tools.settle", *arguments)
    assert answer.returncode != 0
    return answer.stderr


def test_a_question_or_a_budget_that_is_none_is_refused(begun: Clone) -> None:
    assert "There are\n  few:many\n  few:twin\n  few:more" in refused(begun, "--pairs", "few:none")
    assert "should be more than 0" in refused(begun, "--hours", "0")
    assert "should be at least 1" in refused(begun, "--most", "0")
