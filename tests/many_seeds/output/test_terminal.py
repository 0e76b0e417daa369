"""What a terminal gets, and a pipe does not: colours and wrapped lines."""

import io
import sys

import pytest

from many_seeds.commands import console
from many_seeds.output.terminal import for_stream

TABLE = """\
worse: base (a variant better than most)

a     b      verdict on b  n
----  -----  ------------  -
base  large  better        5
a → b
  equivalent  −0.1
  linear → elm: worse, −7.3

equivalent if it lies within ±0.5, else better or worse if it
excludes 0
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def test_verdicts_are_in_colour_on_a_terminal_and_nothing_else_is() -> None:
    green, red, cyan = (f"\x1b[{code}m{{}}\x1b[0m".format for code in (32, 31, 36))
    expected = TABLE.replace("better   ", green("better") + "   ").replace("worse:", red("worse") + ":")
    expected = expected.replace("worse,", red("worse") + ",").replace("equivalent  ", cyan("equivalent") + "  ")
    assert for_stream(TABLE, Terminal()) == expected


def test_a_pipe_gets_neither_colours_nor_wrapped_lines() -> None:
    text = TABLE + "word " * 40
    assert for_stream(text, io.StringIO()) == text
    assert for_stream(text, None) == text  # Python's stream that the shell closed


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_is_respected(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert for_stream(TABLE, Terminal()) == TABLE
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in for_stream(TABLE, Terminal())  # an empty NO_COLOR is none: https://no-color.org


@pytest.mark.parametrize("before", range(60, 80))
def test_a_number_stays_on_the_line_of_its_percent_sign(before: int) -> None:
    shown = for_stream(f"{'x' * before} 12.34 % of all images", Terminal())
    assert "12.34 % of" in " ".join(shown.split())
    assert "\n  %" not in shown


def test_long_lines_are_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    console.show("short\n" + "word " * 40)
    first, second, *others = terminal.getvalue().splitlines()
    assert (first, second[:9], others[0][:6]) == ("short", "word word", "  word")
    assert max(map(len, (second, *others))) <= 80
