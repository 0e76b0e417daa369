"""Results as text, Markdown and sentences."""

import math
import re

import numpy as np
import pytest

import many_seeds as ms
from many_seeds.output import text
from tests.support.command import TENTHS, Run, long, write

ZEROS = [0.0] * 10


def words(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1.0], ["+0.55 +0.18 … +0.92"]),
        ([1e-12], ["+5.5e−13 +1.8e−13 … +9.2e−13"]),
        ([1e9], ["+5.5e+08 +1.8e+08 … +9.2e+08"]),
        ([1e4], ["+5500 +1795 … +9205"]),
        ([1e-12, 1e9], ["+5.5e−13 +1.3e−13 … +9.7e−13", "+5.5e+08 +1.3e+08 … +9.7e+08"]),
    ],
)
def test_numbers_are_short_and_alike_whatever_their_size(factors: list[float], expected: list[str]) -> None:
    scores = {f"b{place}": [factor * tenth for tenth in TENTHS] for place, factor in enumerate(factors)}
    printed = words(str(ms.compare({"a": ZEROS} | scores, baseline="a")))
    for numbers in expected:
        assert f"better {numbers} 10" in printed


@pytest.mark.parametrize(
    ("nearest", "expected"),
    [
        (9e-5, "+0.3706 +0.0001 … +0.7411"),
        (0.004, "+0.375 +0.004 … +0.745"),
        (0.006, "+0.38 +0.01 … +0.75"),  # two decimals show it already
        (1e-12, "+0.37 +0.00 … +0.74"),  # more decimals than a number may have
    ],
)
def test_a_bound_that_excludes_0_is_not_shown_as_0(nearest: float, expected: str) -> None:
    gains = [tenth - ms.interval(TENTHS).low + nearest for tenth in TENTHS]
    result = ms.compare({"a": ZEROS, "b": gains})
    assert f"better {expected} 10" in words(str(result))
    losses = ms.compare({"a": ZEROS, "b": [-gain for gain in gains]}, lower_is_better=True)
    shown = " ".join(expected.replace("+", "−").split(" ")[place] for place in (0, 3, 2, 1))
    assert f"better {shown} 10" in words(str(losses))


def test_one_narrow_interval_does_not_set_the_decimals_of_all_rows() -> None:
    scores = {f"b{place}": [tenth + place for tenth in TENTHS] for place in range(3)}
    narrow = [2 + tenth / 10_000 for tenth in TENTHS]
    printed = words(str(ms.compare({"a": ZEROS, **scores, "narrow": narrow}, baseline="a")))
    assert "better +0.550 +0.0" in printed
    assert "better +1.550 +1.0" in printed
    assert "better +2.00006 +2.00001 … +2.00010" in printed


def test_long_names_are_whole_on_a_line_above_their_result() -> None:
    a, b = "a_" * 40, "b_" * 40
    lines = str(ms.compare({a: ZEROS, b: TENTHS})).splitlines()
    place = lines.index(f"{a} → {b}")
    assert lines[place + 1].split() == ["better", "+0.55", "+0.18", "…", "+0.92", "10", "–"]


def test_a_long_name_of_a_metric_stays_whole_in_the_header(run: Run) -> None:
    file = write(long({"a": ZEROS, "b": TENTHS}).replace("accuracy", "balanced_accuracy_of_all"))
    assert " balanced_accuracy_of_all," in run(file).out


def test_no_line_is_wider_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    scores = {f"variant_{place}": [tenth + 0.1 * place * (-1) ** seed for seed, tenth in enumerate(TENTHS)]
              for place in range(6)}  # fmt: skip
    printed = str(ms.compare(scores, margin=0.05, resolution=0.001))
    assert max(map(len, printed.splitlines())) <= text.LINE_WIDTH
    assert "  variant_1  " in printed


def test_the_printed_results_are_what_the_command_prints(run: Run) -> None:
    scores = {"a": TENTHS, "b": TENTHS[::-1], "c": [tenth + 1 + 0.1 * (tenth > 0.5) for tenth in TENTHS]}
    file = write(long(scores).replace("accuracy", "score"))
    assert run(file, "--margin", "0.1").out == str(ms.compare(scores, margin=0.1))
    assert run(file, "--margin", "0.1", "--markdown").out == ms.compare(scores, margin=0.1).to_markdown()


def test_the_guarantee_has_the_number_of_intervals_their_validity_and_the_rule_of_the_verdict() -> None:
    scores = {"a": ZEROS, "b": TENTHS, "c": TENTHS[::-1]}
    printed = words(str(ms.compare(scores, confidence=0.9)))
    assert (
        "The 3 intervals hold simultaneously with 90 % confidence, at any number of seeds, whenever you look" in printed
    )
    assert "better or worse if it excludes 0 (higher is better)" in printed
    assert "Without a margin, no verdict is equivalent" in printed
    assert "Assumes independent runs with roughly normal differences" in printed
    printed = words(str(ms.compare({"a": ZEROS, "b": TENTHS}, margin=0.05, lower_is_better=True)))
    assert "The interval holds with 95 % confidence" in printed
    assert "equivalent if it lies within ±0.05, else better or worse if it excludes 0 (lower is better)" in printed
    assert "Without a margin" not in printed


def test_the_fixed_design_names_its_limits() -> None:
    printed = words(str(ms.compare({"a": ZEROS, "b": TENTHS}, design="fixed")))
    assert "for one look at a number of seeds that was fixed before any score was seen" in printed
    assert "If scores were seen before, or if seeds may be added, choose the open design" in printed
    assert "choose the open design" not in words(str(ms.compare({"a": ZEROS, "b": TENTHS})))


def test_markdown_starts_with_the_verdicts_and_escapes_names() -> None:
    table = ms.compare({"a|b": ZEROS, "[c_d]": TENTHS}).to_markdown()
    assert table.startswith("## 1 of 1 comparison has a verdict: 1 better\n")
    assert "| a | b | verdict on b | score, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a |" in table
    assert "| a\\|b | \\[c\\_d\\] | better | +0.55 |" in table or "| a\\|b | \\[c_d\\] | better | +0.55 |" in table


def test_the_name_of_a_metric_is_escaped_too(run: Run) -> None:
    file = write(long({"a": ZEROS, "b": TENTHS}).replace("accuracy", "f|1"))
    assert "| f\\|1, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a |" in run(file, "--markdown").out


def test_long_markdown_has_the_verdicts_first_and_the_rest_counted() -> None:
    generator = np.random.default_rng(0)
    scores = {f"variant_{place}": generator.normal(size=20).round(3) for place in range(60)}
    scores["best"] = scores["variant_0"] + 50 + generator.normal(size=20)
    table = ms.compare(scores).to_markdown()
    assert len(table) < 65_536
    shown = re.findall(r"^\| (?!a \||---)\S+ \| \S+ \| (\w+)", table, re.MULTILINE)
    assert shown[:60] == ["better"] * 60
    assert set(shown[60:]) == {"undecided"}
    assert f"Left out for size: {math.comb(61, 2) - len(shown):,} comparisons" in table


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_output_has_the_width_of_the_terminal(columns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    items = "variant,seed,item,correct\n" + "".join(
        f"{name},{seed},q{item},{(item * 7 + seed) % 10 < limit}\n"
        for name, limit in (("a_model", 4), ("another_model", 7)) for seed in range(6) for item in range(40)
    )  # fmt: skip
    for arguments in ([write(long({"a": ZEROS, "b": TENTHS, "c": TENTHS[::-1]}))], ["--items", write(items, "i.csv")]):
        printed = run(*arguments).out
        assert max(map(len, printed.splitlines())) <= min(max(columns, 75), 110)
        assert "verdict on b" in printed
        assert "new items" in printed or "--items" not in arguments


def test_the_summary_counts_the_verdicts() -> None:
    scores = {"a": TENTHS, "same": TENTHS, "up": [t + 1 + e for t, e in zip(TENTHS, TENTHS[::-1], strict=True)]}
    scores |= {"down": [-t for t in scores["up"]], "like": TENTHS[::-1]}
    summary = text.summary(ms.compare(scores, baseline="a"))
    assert summary == "3 of 4 comparisons have a verdict: 1 better, 1 worse, 1 unchanged"
    assert text.summary(ms.compare({"a": TENTHS, "b": TENTHS[::-1]})) == "0 of 1 comparison has a verdict"


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        ([0.3, -0.1] * 5, "undecided at 10 seeds: a verdict is projected at 55, in the worst case at 55"),
        ([0.5], "an interval needs at least two runs"),
        ([0.1] * 10, "every seed has the same difference; a resolution (--resolution) is needed for a verdict"),
    ],
)
def test_undecided_results_name_what_would_probably_give_a_verdict(b: list[float], expected: str) -> None:
    (result,) = ms.compare({"a": ZEROS, "b": b}, margin=0.2)
    assert text.undecided(result) == expected


def test_undecided_results_without_a_projection_are_described() -> None:
    (result,) = ms.compare({"a": ZEROS, "b": [1.0, -1.0] * 5})
    assert text.undecided(result) == ("undecided at 10 seeds, and no verdict is projected at any number of seeds")
