"""The gate: which findings make it fail, for what reason, and with which status."""

import argparse
import subprocess
import sys

import pytest

from many_seeds.commands import gate
from many_seeds.commands.gate import NEW, NOT_COMPARED, NOT_RETRAINED, REMOVED, Finding, Gate, lines
from many_seeds.errors import UserError
from many_seeds.results import UNCHANGED
from tests import ROOT

WORDS = ("better", "equivalent", "undecided", "worse", UNCHANGED, NEW, REMOVED, NOT_COMPARED, NOT_RETRAINED)
WITHOUT_RUNS = ["is not compared", "is not retrained"]
FINDINGS = [Finding(f"is {word}", word, "some difference") for word in WORDS]


def failing(fail_on: str, watch: str = "", findings: list[Finding] = FINDINGS) -> list[str | None]:
    return [reason.variant for reason in Gate(tuple(fail_on.split(",")), (watch,) if watch else ()).reasons(findings)]


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        ("worse", ["is worse", *WITHOUT_RUNS]),
        ("undecided", ["is undecided", "is worse", "is new", *WITHOUT_RUNS]),
        ("not-better", ["is equivalent", "is undecided", "is worse", "is new", *WITHOUT_RUNS]),
        ("worse,undecided", ["is undecided", "is worse", "is new", *WITHOUT_RUNS]),
    ],
)
def test_each_rule_fails_for_its_verdicts(fail_on: str, expected: list[str]) -> None:
    assert failing(fail_on) == expected


def test_only_watched_variants_are_judged() -> None:
    assert failing("worse", "is better,is undecided") == []
    assert failing("worse,undecided", "is undecided") == ["is undecided"]


def test_a_watched_variant_must_be_compared_and_under_not_better_change() -> None:
    for verdict in (NEW, REMOVED, NOT_COMPARED):
        assert failing("worse", f"is {verdict}") == [f"is {verdict}"]
    assert failing("not-better", "is unchanged") == ["is unchanged"]
    assert failing("worse", "is unchanged") == []
    with pytest.raises(UserError, match=r"are compared \(is better, .*\), received other"):
        failing("worse", "other,is better")


@pytest.mark.parametrize("watch", ["a,b", " a, b ", "a,b,", ",a,,b"])
def test_a_list_of_watched_variants_may_have_blanks_and_commas_at_its_ends(watch: str) -> None:
    worse = [Finding(name, "worse", "some difference") for name in ("a", "b", "c")]
    assert failing("worse", watch, worse) == ["a", "b"]


def test_a_variant_whose_name_has_a_comma_is_watched_by_that_name() -> None:
    worse = [Finding(name, "worse", "some difference") for name in ("a", "b", "a,b")]
    assert failing("worse", "a,b", worse) == ["a,b"]


def test_a_list_without_a_name_watches_every_variant() -> None:
    parser = argparse.ArgumentParser()
    gate.add_arguments(parser)
    rules = gate.from_arguments(parser.parse_args(["--fail-on", "worse", "--watch", " , "]))
    assert rules.watch == ()
    assert gate.from_arguments(parser.parse_args(["--watch", ""])).fail_on == ()


def test_under_not_better_something_must_have_changed() -> None:
    unchanged = [Finding("a", UNCHANGED, "the same predictions"), Finding("b", REMOVED, "not in params.yaml any more")]
    assert failing("not-better", findings=unchanged) == [None]
    assert failing("worse,undecided", findings=unchanged) == []


def test_the_lines_of_the_gate_have_its_options_and_each_reason() -> None:
    gate = Gate(("worse",), ("a",))
    found = [Finding("a", "worse", "−0.2")]
    assert lines(gate, gate.reasons(found)) == [
        "gate failed (--fail-on worse --watch a)",
        "a is worse: −0.2",
    ]
    assert lines(gate, []) == ["gate passed (--fail-on worse --watch a)"]
    assert lines(Gate((), ()), []) == []


def test_of_many_reasons_ten_are_listed_and_the_others_counted() -> None:
    gate = Gate(("worse",), ())
    found = lines(gate, gate.reasons([Finding(f"v{place}", "worse", "−0.2") for place in range(1200)]))
    assert found[1:] == [*(f"v{place} is worse: −0.2" for place in range(10)), "and 1,190 more"]
    with pytest.raises(UserError, match=r"\(v0, .*v9 and 1,190 more\), received x"):
        failing("worse", "x", [Finding(f"v{place}", "worse", "−0.2") for place in range(1200)])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_reasons_are_repeated_on_standard_error_if_the_output_is_not_a_terminal(
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


@pytest.mark.parametrize(
    "tool",
    [pytest.param("tools.compare.__main__", marks=pytest.mark.pipeline), "many_seeds.commands.cli verdict"],
)
def test_an_error_has_another_status_than_the_gate(tool: str) -> None:
    for arguments in (["nosuch"], ["nosuch", "--fail-on", "worse"], ["--nosuch"]):
        result = subprocess.run(
            [sys.executable, "-m", *tool.split(), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert "error: " in result.stderr
        assert result.stdout == ""


def test_a_bug_has_the_status_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    @gate.command
    def main() -> None:
        raise KeyError("a bug at postgresql://user:secret@host")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert "secret" not in printed.splitlines()[-1]
