"""The gate: which findings make it fail, for what reason, and with which status."""

import argparse
import subprocess
import sys

import pytest

from many_seeds import gate
from many_seeds.errors import UserError
from many_seeds.gate import NEW, NOT_COMPARED, NOT_RETRAINED, REMOVED, Finding, Gate, lines
from many_seeds.results import UNCHANGED
from tests.conftest import ROOT

WORDS = ("better", "equivalent", "undecided", "worse", UNCHANGED, NEW, REMOVED, NOT_COMPARED, NOT_RETRAINED)
HIDDEN = ["is not compared", "is not retrained"]
FINDINGS = [Finding(f"is {word}", word, "as it is") for word in WORDS]


def failing(fail_on: str, watch: str = "", findings: list[Finding] = FINDINGS) -> list[str | None]:
    return [reason.variant for reason in Gate(tuple(fail_on.split(",")), (watch,) if watch else ()).reasons(findings)]


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        ("worse", ["is worse", *HIDDEN]),
        ("undecided", ["is undecided", "is worse", "is new", *HIDDEN]),
        ("not-better", ["is equivalent", "is undecided", "is worse", "is new", *HIDDEN]),
        ("worse,undecided", ["is undecided", "is worse", "is new", *HIDDEN]),
    ],
)
def test_each_rule_fails_for_its_verdicts(fail_on: str, expected: list[str]) -> None:
    assert failing(fail_on) == expected


def test_only_watched_variants_are_judged() -> None:
    assert failing("worse", "is better,is undecided") == []
    assert failing("worse,undecided", "is undecided") == ["is undecided"]


def test_a_variant_that_is_watched_has_to_be_there_and_to_change_where_that_is_claimed() -> None:
    for verdict in (NEW, REMOVED, NOT_COMPARED):
        assert failing("worse", f"is {verdict}") == [f"is {verdict}"]
    assert failing("not-better", "is unchanged") == ["is unchanged"]
    assert failing("worse", "is unchanged") == []
    with pytest.raises(UserError, match=r"are compared \(is better, .*\), received other"):
        failing("worse", "other,is better")


@pytest.mark.parametrize("watch", ["a,b", " a, b ", "a,b,", ",a,,b"])
def test_a_list_of_watched_variants_may_have_blanks_and_commas_at_its_ends(watch: str) -> None:
    worse = [Finding(name, "worse", "as it is") for name in ("a", "b", "c")]
    assert failing("worse", watch, worse) == ["a", "b"]


def test_a_variant_whose_name_has_a_comma_is_watched_by_that_name() -> None:
    worse = [Finding(name, "worse", "as it is") for name in ("a", "b", "a,b")]
    assert failing("worse", "a,b", worse) == ["a,b"]


def test_a_list_without_a_name_watches_nothing_and_so_all_may_fail() -> None:
    parser = argparse.ArgumentParser()
    gate.add_arguments(parser)
    asked = gate.from_arguments(parser.parse_args(["--fail-on", "worse", "--watch", " , "]))
    assert asked.watch == ()
    assert gate.from_arguments(parser.parse_args(["--watch", ""])).fail_on == ()


def test_a_change_that_claims_something_better_has_to_change_something() -> None:
    unchanged = [Finding("a", UNCHANGED, "the same predictions"), Finding("b", REMOVED, "not in params.yaml any more")]
    assert failing("not-better", findings=unchanged) == [None]
    assert failing("worse,undecided", findings=unchanged) == []


def test_what_the_gate_says_names_what_was_asked_and_each_reason() -> None:
    gate = Gate(("worse",), ("a",))
    found = [Finding("a", "worse", "−0.2")]
    assert lines(gate, gate.reasons(found)) == [
        "gate failed (--fail-on worse --watch a)",
        "a is worse: −0.2",
    ]
    assert lines(gate, []) == ["gate passed (--fail-on worse --watch a)"]
    assert lines(Gate((), ()), []) == []


def test_of_many_reasons_ten_are_said_and_the_others_counted() -> None:
    gate = Gate(("worse",), ())
    said = lines(gate, gate.reasons([Finding(f"v{place}", "worse", "−0.2") for place in range(1200)]))
    assert said[1:] == [*(f"v{place} is worse: −0.2" for place in range(10)), "and 1,190 more"]
    with pytest.raises(UserError, match=r"\(v0, .*v9 and 1,190 more\), received x"):
        failing("worse", "x", [Finding(f"v{place}", "worse", "−0.2") for place in range(1200)])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_reasons_are_repeated_where_no_terminal_showed_them(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with pytest.raises(SystemExit) as end:
        gate.close(
            [gate.Reason("a", "worse", "worse", "−0.2")],
            ["gate failed", "a is worse: −0.2"],
        )
    assert end.value.code == 1
    assert capsys.readouterr().err == ("" if terminal else "gate failed\na is worse: −0.2\n")


@pytest.mark.parametrize("tool", ["tools.compare.__main__", "many_seeds.cli verdict"])
def test_an_error_has_another_status_than_the_gate(tool: str) -> None:
    for arguments in (["nosuch"], ["nosuch", "--fail-on", "worse"], ["--nosuch"]):
        answer = subprocess.run(
            [sys.executable, "-m", *tool.split(), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 2
        assert "error: " in answer.stderr
        assert answer.stdout == ""


def test_a_fault_of_the_program_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    @gate.command
    def main() -> None:
        raise KeyError("a bug at postgresql://user:secret@host")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert "secret" not in printed.splitlines()[-1]
