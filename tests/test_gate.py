"""The gate: which findings shut it, for what reason, and with which status."""

import subprocess
import sys

import pytest

from stages import gate
from stages.errors import StudyError
from stages.gate import NOT_COMPARED, UNCHANGED, Finding, Gate, lines, undecided
from tests.conftest import ROOT

WORDS = ("better", "equivalent", "undecided", "worse", UNCHANGED, NOT_COMPARED)
FINDINGS = [Finding(f"is {word}", word, "as it is") for word in WORDS]


def shut(fail_on: str, watch: str = "", findings: list[Finding] = FINDINGS) -> list[str | None]:
    gate = Gate(tuple(fail_on.split(",")), tuple(filter(None, watch.split(","))))
    return [reason.variant for reason in gate.reasons(findings)]


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        ("worse", ["is worse"]),
        ("undecided", ["is undecided", "is not compared"]),
        ("not-better", ["is equivalent", "is undecided", "is worse", "is not compared"]),
        ("worse,undecided", ["is undecided", "is worse", "is not compared"]),
    ],
)
def test_each_rule_shuts_for_its_verdicts(fail_on: str, expected: list[str]) -> None:
    assert shut(fail_on) == expected


def test_who_watches_a_variant_hears_of_that_one_alone() -> None:
    assert shut("worse", "is better,is undecided") == []
    assert shut("worse,undecided", "is undecided") == ["is undecided"]


def test_a_variant_that_is_watched_has_to_be_there_and_to_change_where_that_is_claimed() -> None:
    assert shut("worse", "is not compared") == ["is not compared"]
    assert shut("not-better", "is unchanged") == ["is unchanged"]
    assert shut("worse", "is unchanged") == []
    with pytest.raises(StudyError, match=r"got \['nobody'\]"):
        shut("worse", "nobody")


def test_a_change_that_claims_something_better_has_to_change_something() -> None:
    unchanged = [Finding("a", UNCHANGED, "the same predictions")]
    assert shut("not-better", findings=unchanged) == [None]
    assert shut("worse,undecided", findings=unchanged) == []


def test_what_the_gate_says_names_what_was_asked_and_each_reason() -> None:
    gate = Gate(("worse",), ("a",))
    found = [Finding("a", "worse", "−0.2 points")]
    assert lines(gate, gate.reasons(found)) == ["gate failed (--fail-on worse --watch a)", "a is worse: −0.2 points"]
    assert lines(gate, []) == ["gate passed (--fail-on worse --watch a)"]
    assert lines(Gate((), ()), []) == []


@pytest.mark.parametrize(
    ("n", "about", "most", "said"),
    [
        (10, 24, 420, "undecided after 10 seeds: about 24 would probably decide it, 420 at most if the spread stays"),
        (10, 24, None, "undecided after 10 seeds: about 24 would probably decide it"),
        (10, None, None, "undecided after 10 seeds, and no number of seeds can be named that would probably decide it"),
        (1, None, None, "an interval needs two runs at least"),
    ],
)
def test_undecided_says_how_many_seeds_would_decide(n: int, about: int | None, most: int | None, said: str) -> None:
    assert undecided(n, about, most) == said


@pytest.mark.parametrize("tool", ["compare", "verdict"])
def test_an_error_has_another_status_than_the_gate(tool: str) -> None:
    for arguments in (["nosuch"], ["nosuch", "--fail-on", "worse"], ["--nosuch"]):
        answer = subprocess.run(
            [sys.executable, "-m", f"stages.{tool}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 2
        assert "error: " in answer.stderr
        assert answer.stdout == ""


def test_a_fault_of_the_program_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    @gate.command
    def main() -> None:
        raise KeyError("a bug")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "KeyError" in capsys.readouterr().err
