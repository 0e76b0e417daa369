"""The GitHub Action, run as a runner would: its script in bash, with the inputs and files of a step."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from many_seeds.commands import action
from tests import ROOT
from tests.support import command
from tests.support.command import TENTHS, assert_refused, long

ACTION: dict[str, Any] = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
WORSE = {"base": TENTHS, "change": [-4.0] * 10}


def step(**inputs: str) -> tuple[subprocess.CompletedProcess[str], str, dict[str, str]]:
    """Run the last step in the current folder; what it printed, its summary and its outputs."""
    unknown = {name.replace("_", "-") for name in inputs} - ACTION["inputs"].keys()
    assert not unknown
    values = {name: inputs.get(name.replace("-", "_"), one["default"]) for name, one in ACTION["inputs"].items()}
    contexts = {f"inputs.{name}": value for name, value in values.items()}
    contexts["steps.python.outputs.python-path"] = sys.executable
    script = STEPS[-1]
    environment = {name: re.sub(r"\$\{\{ (.*?) \}\}", lambda one: contexts[one[1]], value)
                   for name, value in script["env"].items()}  # fmt: skip
    runner = Path("runner").absolute()
    runner.mkdir(exist_ok=True)
    (runner / "many-seeds").unlink(missing_ok=True)
    (runner / "many-seeds").symlink_to(ROOT)  # where the step before installs the library
    variables = {"GITHUB_STEP_SUMMARY": runner / "summary", "GITHUB_OUTPUT": runner / "output", "RUNNER_TEMP": runner}
    for name in ("summary", "output"):
        (runner / name).write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script["run"]],
        env=os.environ | {name: str(path) for name, path in variables.items()} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    outputs = dict(line.split("=", 1) for line in (runner / "output").read_text().splitlines())
    return done, (runner / "summary").read_text(encoding="utf-8"), outputs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_worse_variant_fails_the_step_after_its_summary_and_outputs_were_written() -> None:
    Path("scores.csv").write_text(long(WORSE))
    Path("numpy.py").write_text("raise SystemExit('a module of the checked out repository was imported')")
    done, summary, outputs = step(files="scores.csv", baseline="base", fail_on="worse", among="10")
    assert done.returncode == 1, done.stderr
    assert summary.startswith("## 1 of 1 comparison has a verdict: 1 worse\n\n- gate failed")
    assert "99.5 % confidence" in summary
    assert "change is worse" in done.stdout
    path = outputs.pop("json")
    counts = {"better": "0", "worse": "1", "equivalent": "0", "undecided": "0", "unchanged": "0"}
    assert outputs == counts | {"failed": "true"}
    assert json.loads(Path(path).read_text())["results"][0]["verdict"] == "worse"


def test_the_summary_of_many_comparisons_fits_github() -> None:
    variants = {f"{place:01000}": [float(place % 7), 1.0] for place in range(601)}  # a table of 1.2 MB
    Path("scores.csv").write_text(long(variants))
    done, summary, outputs = step(files="scores.csv", baseline=f"{0:01000}")
    assert done.returncode == 0, done.stderr
    assert sum(int(outputs[name]) for name in ("better", "worse", "equivalent", "undecided", "unchanged")) == 600
    assert 10_000 < len(summary.encode()) < 2**20
    assert outputs["failed"] == "false"


def test_no_input_is_read_as_a_command_or_another_option() -> None:
    name = "::error::$(touch hacked) `touch hacked`; touch hacked"
    Path("--json").write_text(long({name: TENTHS, "b": [0.0] * 10}))
    done, summary, _ = step(files="--json", pairs=f"{name}:b", metric="accuracy", fail_on="worse\nundecided")
    assert done.returncode == 1, done.stderr
    assert "touch hacked" in summary
    assert not Path("hacked").exists()
    stop, *shown, resume = done.stdout.splitlines()
    assert stop.replace("stop-commands::", "") + "::" == resume
    assert any(line.startswith(name) for line in shown)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, "name one source"),
        ({"files": "nosuch.csv", "baseline": "a"}, "nosuch.csv can't be read"),
        ({"files": "scores.csv", "wide": "yes"}, "the input wide should be true or false, received 'yes'"),
        ({"files": "scores.csv", "direction": "up"}, "the input direction should be lower or higher"),
    ],
    ids=["no source", "no file", "no switch", "no direction"],
)
def test_an_error_has_another_status_than_the_gate_and_no_summary(inputs: dict[str, str], expected: str) -> None:
    variables = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    files = {"GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": "output", "RUNNER_TEMP": "."}
    done = command.run_main(action.main, environment=variables | files)
    assert_refused(done, expected)
    assert not Path("summary").exists()
    assert not Path("output").exists()


def test_the_inputs_become_options_of_the_command() -> None:
    environment = {"INPUT_MLFLOW": "a\nb\n", "INPUT_DIRECTION": "lower", "INPUT_UNPAIRED": "true", "INPUT_WIDE": ""}
    expected = ["--mlflow=a", "--mlflow=b", "--unpaired", "--lower-is-better"]
    assert action.arguments_of(environment) == ["verdict", *expected, "--"]
    passed = {name.removeprefix("INPUT_").lower().replace("_", "-") for name in STEPS[-1]["env"]} - {"python"}
    assert passed == ACTION["inputs"].keys()
    example = {f"INPUT_{name.upper().replace('-', '_')}": "true" for name in passed - {"direction"}}
    options = {argument.partition("=")[0].removeprefix("--") for argument in action.arguments_of(example)}
    assert options >= passed - {"direction", "files"}


def test_actions_are_pinned_by_commit_and_scripts_have_no_expressions() -> None:
    pages = [ROOT / "action.yml", *(ROOT / ".github/workflows").glob("*.yml")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        used = re.findall(r"uses: (\S+)", text)
        assert used
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}|\./", one) for one in used), page
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")
        assert not re.search(r"run: .*\$\{\{", text)
    assert not any("${{" in one["run"] for one in STEPS if "run" in one)
