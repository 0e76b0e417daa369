"""Results as text for a terminal, as Markdown, and in sentences."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from many_seeds.comparisons import Result, Results

HEADER_WIDTH = 14
LINE_WIDTH = 110
MISSING = "–"
MAX_DIGITS = 8  # of a number that is written without a power of ten

Cell = tuple[str, float | str]  # the text, and what a table is sorted by


def as_text(results: "Results", *lines: str) -> str:
    """An aligned table, the guarantee, the remarks, and further lines."""
    paragraphs = [table(results), "\n".join(filled(line) for line in guarantee(results))]
    for more in (results.remarks, lines):
        if more:
            paragraphs.append("\n".join(filled(line, "  ") for line in more))
    return "\n\n".join(paragraphs) + "\n"


def as_markdown(results: "Results", *lines: str) -> str:
    """The same for pull requests, further lines first."""
    cells = markdown(header(results), [[text for text, _ in row] for row in rows(results)])
    paragraphs = [f"## {summary(results)}", bullets(lines), cells, *guarantee(results), bullets(results.remarks)]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def guarantee(results: "Results") -> list[str]:
    """What the intervals guarantee, how a verdict is read off them, and what is assumed."""
    settings, count = results.settings, results.family
    holds = f"The {count:,} intervals hold simultaneously" if count > 1 else "The interval holds"
    if settings.design == "open":
        when = "at any number of seeds, whenever you look and add more"
    else:
        when = "for this one look at a number of seeds that was fixed before any score was seen"
    better = "lower" if settings.lower_is_better else "higher"
    unit = f" {results.unit}" if results.unit else ""
    equivalent = f"equivalent if it lies within ±{plain(settings.margin)}{unit}, else " if settings.margin else ""
    margin = "" if settings.margin else " Without a margin nothing can be equivalent."
    looked = " If anyone has looked before, or seeds may be added, choose the open design."
    caveat = looked if settings.design == "fixed" else ""
    generalise = "They generalise" if count > 1 else "It generalises"
    return [
        f"{holds} with {plain(100 * settings.confidence)} % confidence, {when}. {generalise} to {results.scope}. Each "
        f"verdict is read off its interval: {equivalent}better or worse if it excludes 0 ({better} is better).{margin}",
        f"Assumes independent runs with roughly normal differences, none left out because of its score.{caveat}",
    ]


def summary(results: "Results") -> str:
    """How many comparisons have a verdict: "5 of 8 comparisons have a verdict: 3 better, 1 worse, 1 equivalent"."""
    order = ("better", "worse", "equivalent", "unchanged")
    counts = [(word, sum(result.verdict == word for result in results)) for word in order]
    total, having = len(results), sum(count for _, count in counts)
    found = ", ".join(f"{count:,} {word}" for word, count in counts if count)
    noun = "comparison has" if total == 1 else "comparisons have"
    return f"{having:,} of {total:,} {noun} a verdict" + (f": {found}" if found else "")


def header(results: "Results") -> list[str]:
    """The names of the columns of `rows`."""
    unit = f", {results.unit}" if results.unit else ""
    difference = f"{results.metric}, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a{unit}"
    return ["a", "b", "verdict on b", difference, "interval", "n", "seeds needed: projected (worst case)"]


def rows(results: "Results") -> list[list[Cell]]:
    """The cells of each result: a, b, verdict, difference, interval, n, seeds needed."""
    return [
        [
            (result.a, result.a),
            (result.b, result.b),
            (result.verdict, result.verdict),
            (number(result.difference, form), result.difference),
            (interval(result, form), result.low),
            (_runs(result), float(result.n)),
            _seeds_needed(result),
        ]
        for result, form in zip(results, number_forms(results), strict=True)
    ]


def interval(result: "Result", form: str) -> str:
    """The interval, "any" where it excludes nothing."""
    if not math.isfinite(result.low):
        return "any"
    return " … ".join(number(end, form) for end in (result.low, result.high))


def _runs(result: "Result") -> str:
    return f"{result.n}" if result.paired else f"{result.n_a} and {result.n_b}"


def _seeds_needed(result: "Result") -> Cell:
    projected, worst = result.seeds_projected, result.seeds_worst_case
    if projected is None:
        return MISSING, -1.0
    return (f"{projected:,}" if worst is None else f"{projected:,} ({worst:,})"), float(projected)


def undecided(result: "Result") -> str:
    """Why a result is undecided, and what would probably give a verdict."""
    if result.tied:
        return "every seed shows the same difference, and only a step (--step) says how sure it is"
    if not result.paired:
        return "runs with the same seeds would probably give a verdict sooner"
    if result.n < 2:
        return "an interval needs at least two runs"
    projected, worst = result.seeds_projected, result.seeds_worst_case
    if projected is None:  # and so is the worst case, which is never earlier
        return f"undecided at {result.n} seeds, and no number of seeds is projected to give a verdict"
    least = f"undecided at {result.n} seeds: a verdict is projected at {projected:,}"
    return least + (f", in the worst case at {worst:,}" if worst else "")


def number_forms(results: Sequence["Result"]) -> list[str]:
    """The format of each result's numbers.

    All have as many decimals as the narrowest interval deserves, and enough that no bound of a better or worse result
    is shown as 0, as far as `MAX_DIGITS` allows. Where the former makes long numbers, they have powers of ten, and as
    many digits as their own interval deserves.
    """
    halves = [(result.high - result.low) / 2 for result in results]
    sizes = [
        half if 0 < half < math.inf else abs(result.difference) for half, result in zip(halves, results, strict=True)
    ]
    largest = [
        max(abs(value) for value in (result.difference, result.low, result.high) if math.isfinite(value))
        for result in results
    ]
    known = [half for half in halves if 0 < half < math.inf] or [size for size in sizes if size]
    decimals = max(1 - _power(min(known)), 0) if known else 3
    most = MAX_DIGITS - 1 - max(_power(max(largest, default=0.0)), 0)
    if decimals <= most:
        nearest = [min(abs(one.low), abs(one.high)) for one in results if one.verdict in ("better", "worse")]
        decimals = max([decimals, *(_nonzero_decimals(bound, decimals, most) for bound in nearest)])
        return [f"{{:+.{decimals}f}}"] * len(results)
    return [
        f"{{:+.{min(max(_power(value) - _power(size), 0) + 1, 15)}e}}"
        for value, size in zip(largest, sizes, strict=True)
    ]


def _nonzero_decimals(value: float, least: int, most: int) -> int:
    """How many decimals show a value other than 0 as such, of `least` to `most`; `least` where none do."""
    return next((decimals for decimals in range(least, most + 1) if float(f"{value:.{decimals}f}")), least)


def _power(value: float) -> int:
    """The power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(value)) if value else 0


def table(results: "Results") -> str:
    """An aligned table; where long names make it wider than a terminal, each pair is on a line above its result."""
    head, cells = header(results), [[text for text, _ in row] for row in rows(results)]
    whole = aligned(head, cells, left=3)
    if max(map(len, whole.splitlines())) <= LINE_WIDTH:
        return whole
    lines = aligned(head[2:], [row[2:] for row in cells]).splitlines()
    pairs = [f"{a} → {b}" for a, b, *_ in cells]
    below = [f"{pair}\n  {line}" for pair, line in zip(pairs, lines[-len(cells) :], strict=True)]
    return "\n".join(["a → b", *(f"  {line}" for line in lines[: -len(cells)]), *below])


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of a table, long headers broken; the first `left` columns are left-aligned, the others right-aligned."""
    broken = [textwrap.wrap(text, HEADER_WIDTH, break_long_words=False, break_on_hyphens=False) for text in header]
    height = max(map(len, broken))
    heads = [[""] * (height - len(lines)) + lines for lines in broken]
    lines = [*map(list, zip(*heads, strict=True)), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(height, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for GitHub and GitLab; what is in its cells is shown as it is."""
    lines = [[*map(escaped, header)], ["---"] * len(header), *([*map(escaped, row)] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list, "" for no lines."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line; an _ within a word needs no escape."""
    marked = re.sub(r"[\\`*\[\]<>|~]|\b_|_\b", r"\\\g<0>", text)
    return re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", marked).strip()


def filled(text: str, indent: str = "") -> str:
    """Text broken into lines that fit a terminal, those after the first behind `indent`."""
    return textwrap.fill(text, LINE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def number(value: float, form: str) -> str:
    """A formatted number with a minus sign as wide as a plus sign."""
    return form.format(value).replace("-", "−")


def plain(value: float) -> str:
    return f"{value:.12g}"
