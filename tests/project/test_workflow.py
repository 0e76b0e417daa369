"""The commands of GitHub and GitLab on a pull request, with their variables and files."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.support.commits import MANY, NETWORK, NOISE, RIDGE, commit, git, write_runs, write_study


def workflow() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The variables of the workflow as GitHub sets them, and the steps after the installation as (name, command)."""
    text = (ROOT / ".github/workflows/compare.yml").read_text(encoding="utf-8")
    found = YAML(typ="safe").load(text.replace("${{ github.base_ref }}", "main"))
    assert "pull_request" in found["on"]
    steps = [step for step in found["jobs"]["compare"]["steps"] if "run" in step and step["name"] != "Install"]
    variables = dict(found["env"])
    for step in steps:
        variables |= step.get("env", {})
    return variables, [(step["name"], step["run"]) for step in steps]


def gitlab() -> list[str]:
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    block = re.search(r"^```yaml gitlab\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block
    return [line for line in YAML(typ="safe").load(block[1])["compare"]["script"] if " pip install " not in line]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone as after the checkout action: a detached HEAD, and a branch main in the remote only."""
    (tmp_path / "origin").mkdir()
    monkeypatch.chdir(tmp_path / "origin")
    git("init", "--quiet", "--initial-branch", "main")
    write_study(MANY, mlp=NETWORK, linear=RIDGE)
    write_runs("mlp", (10 + NOISE).tolist(), seeds=MANY)
    write_runs("linear", [30] * 10, seeds=MANY)
    commit("first")
    git("clone", "--quiet", ".", "../clone")
    monkeypatch.chdir(tmp_path / "clone")
    git("checkout", "--quiet", "--detach", "origin/main")
    git("branch", "--quiet", "--delete", "main")
    return tmp_path / "clone"


def run(commands: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell, as GitHub and GitLab do, until one of them fails."""
    return subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("wrong", "status", "verdict"),
    [(20 + NOISE, 1, "worse"), (NOISE, 0, "better"), (10 + NOISE[::-1], 0, "undecided"), (10 + NOISE, 0, "unchanged")],
    ids=["worse", "better", "noise", "equal"],
)
def test_a_pull_request_gets_a_summary_and_fails_if_a_variant_is_worse(
    wrong: Sequence[int], status: int, verdict: str, checkout: Path
) -> None:
    write_study(MANY, mlp={**NETWORK, "dropout": 0.4}, linear=RIDGE)
    write_runs("mlp", list(wrong), key="second", seeds=MANY)
    git("add", "--all")
    git("commit", "--quiet", "--message", "second")
    variables, steps = workflow()
    summary = checkout.parent / "summary.md"
    done = run([command for _, command in steps], GITHUB_STEP_SUMMARY=str(summary), **variables)
    assert done.returncode == status, done.stderr
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("## Test accuracy: origin/main")
    assert f"**{verdict}**: " in text
    assert "mlp: dropout: 0.5 → 0.4" in text
    assert ("mlp is worse" in done.stderr) == bool(status)  # the log has the reason, too
    before = subprocess.run(["git", "rev-parse", "origin/main"], capture_output=True, text=True, check=True).stdout
    done = run(gitlab(), CI_MERGE_REQUEST_DIFF_BASE_SHA=before.strip())
    assert done.returncode == status
    assert f"**{verdict}**: " in Path("compare.md").read_text(encoding="utf-8")


def test_a_missing_base_branch_is_an_error_without_a_verdict(checkout: Path) -> None:
    variables, steps = workflow()
    commands = [command for _, command in steps]
    done = run(commands, GITHUB_STEP_SUMMARY="summary.md", **(variables | {"BASE": "origin/gone"}))
    assert done.returncode == 2
    assert "unknown revision 'origin/gone'" in done.stderr
