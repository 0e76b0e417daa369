"""Results as text for a terminal, as Markdown, and in sentences."""

import itertools
import math
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from many_seeds.results import Result, Results, ResultVerdict
    from many_seeds.statistics.intervals import Design

HEADER_WIDTH = 14
LINE_WIDTH, LEAST_WIDTH = 110, 60
MISSING = "–"
COLUMNS = 6  # of a table with names in the first one and without an interval for new items
MAX_DIGITS = 8  # of a number without an exponent
DEFAULT_DECIMALS = 3  # where the data have no scale

SUMMARIZED: tuple["ResultVerdict", ...] = ("better", "worse", "equivalent", "unchanged")
MARKDOWN_ORDER: tuple["ResultVerdict", ...] = (*SUMMARIZED, "undecided")
MAX_TABLE = 50_000  # characters of Markdown; GitHub takes 65,536 in a comment
WHEN: dict["Design", str] = {
    "open": "at any number of seeds, whenever you look",
    "fixed": "for one look at a number of seeds that was fixed before any score was seen",
}
ASSUMPTIONS = "Assumes independent runs with roughly normal differences, none left out because of its score."
NEW_ITEMS = (
    "{generalise} to new seeds and new test {items}, {drawn}; {items} needed is the projected number of test {items} "
    "where more seeds can't give a verdict."
)
DRAWN = "drawn independently like these"
DRAWN_IN_GROUPS = "drawn in groups like these, where groups of {items} are independent"
CAVEAT: dict["Design", str] = {
    "open": "",
    "fixed": " If scores were seen before, or if seeds may be added, choose the open design.",
}

Cell = tuple[str, float | str]  # the text, and the key by which a table is sorted


def as_text(results: "Results", *lines: str) -> str:
    """The results as an aligned table, the guarantee, the remarks, and further lines."""
    paragraphs = [table(results), "\n".join(filled(line) for line in guarantee(results))]
    for sentences in (results.remarks, lines):
        if sentences:
            paragraphs.append("\n".join(filled(sentence, "  ") for sentence in sentences))
    return "\n\n".join(paragraphs) + "\n"


def as_markdown(results: "Results", *lines: str) -> str:
    """The results as Markdown: a summary, further lines, a table, the guarantee and the remarks.

    A table of more than `MAX_TABLE` characters has the results with a verdict first, and the others are counted.
    """
    paragraphs = [f"## {summary(results)}", bullets(lines), *_markdown_table(results)]
    paragraphs += [*guarantee(results), bullets(results.remarks)]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _markdown_table(results: "Results") -> list[str]:
    """The table; if it is too long, its first rows, with verdicts first, and a sentence on the others."""
    head, rule, *body = markdown(header(results), [[text for text, _ in row] for row in rows(results)]).split("\n")
    room = MAX_TABLE - len(head) - len(rule)
    if sum(map(len, body)) <= room:
        return ["\n".join([head, rule, *body])]
    order = sorted(range(len(body)), key=lambda row: MARKDOWN_ORDER.index(results[row].verdict))
    lengths = itertools.accumulate(len(body[row]) for row in order)
    kept = sum(length <= room for length in lengths)
    counts = Counter(results[row].verdict for row in order[kept:])
    others = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in MARKDOWN_ORDER if counts[verdict])
    table = "\n".join([head, rule, *(body[row] for row in order[:kept])])
    return [table, f"Left out for size: {sum(counts.values()):,} comparisons ({others}). `--json` has all of them."]


def guarantee(results: "Results", *others: "Results") -> list[str]:
    """What the intervals guarantee and how verdicts are read off them; and what is assumed.

    Args:
        results: results.
        others: further results, by another score or with another margin, whose intervals hold simultaneously with them.
    """
    settings, several = results.settings, results.family > 1
    subject = f"The {results.family:,} intervals hold simultaneously" if several else "The interval holds"
    generalise = "They generalise" if several else "It generalises"
    sentences = [
        f"{subject} with {plain(100 * settings.confidence)} % confidence, {WHEN[settings.design]}. {generalise} to "
        f"{results.scope}. {_readings([results, *others])}",
        f"{ASSUMPTIONS}{CAVEAT[settings.design]}",
    ]
    if any(map(has_new_images, (results, *others))):
        items = f"{results.item}s"
        holds = f"intervals for new {items} hold simultaneously" if several else f"interval for new {items} holds"
        drawn = DRAWN_IN_GROUPS.format(items=items) if results.grouped else DRAWN
        meaning = NEW_ITEMS.format(items=items, generalise=generalise, drawn=drawn)
        sentences.insert(1, f"The {holds} with the same confidence. {meaning}")
    return sentences


def has_new_images(results: "Results") -> bool:
    """Whether a result has an interval for new test images."""
    return any(result.verdict_new_images for result in results)


def _readings(groups: Sequence["Results"]) -> str:
    """How verdicts are read off the intervals of each group."""
    if len(groups) == 1:
        return _reading(groups[0])
    return " ".join(f"{results.metric[:1].upper()}{results.metric[1:]}: {_reading(results)}" for results in groups)


def _reading(results: "Results") -> str:
    """How verdicts are read off the intervals."""
    margin = results.settings.margin
    direction = "lower" if results.settings.lower_is_better else "higher"
    better = f"better or worse if it excludes 0 ({direction} is better)"
    if not margin:
        return f"Each verdict is read off its interval: {better}. Without a margin, no verdict is equivalent."
    unit = f" {results.unit}" if results.unit else ""
    return f"Each verdict is read off its interval: equivalent if it lies within ±{plain(margin)}{unit}, else {better}."


def summary(*groups: "Results") -> str:
    """How many comparisons have a verdict: "5 of 8 comparisons have a verdict: 3 better, 1 worse, 1 equivalent".

    Args:
        groups: results, at least one, of different scores or margins.
    """
    results = [result for group in groups for result in group]
    counts = Counter(result.verdict for result in results)
    found = [f"{counts[verdict]:,} {verdict}" for verdict in SUMMARIZED if counts[verdict]]
    total, number_with_verdict = len(results), sum(counts[verdict] for verdict in SUMMARIZED)
    noun = "comparison has" if total == 1 else "comparisons have"
    counted = f"{number_with_verdict:,} of {total:,} {noun} a verdict" + (f": {', '.join(found)}" if found else "")
    if not found or not any(map(has_new_images, groups)):
        return counted
    holding = sum(result.verdict == result.verdict_new_images != "undecided" for result in results)
    return f"{counted}; {holding:,} of them for new test {groups[0].item}s too"


def header(results: "Results") -> list[str]:
    """The names of the columns of `rows`."""
    unit = f", {results.unit}" if results.unit else ""
    difference = f"{results.metric}, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a{unit}"
    names = ["a", "b", "verdict on b", difference, "interval", "n", "seeds needed: projected (worst case)"]
    if not has_new_images(results):
        return names
    items = f"{results.item}s"
    return [*names, f"new {items}: verdict", f"new {items}: interval", f"{items} needed"]


def rows(results: "Results") -> list[list[Cell]]:
    """The cells of each result: a, b, verdict, difference, interval, n, seeds needed.

    If a result has an interval for new images: also its verdict, the interval, and the images needed.
    """
    new_images = has_new_images(results)
    return [
        _cells(result, form) + (_new_images_cells(result, form) if new_images else [])
        for result, form in zip(results, number_forms(results), strict=True)
    ]


def _cells(result: "Result", form: str) -> list[Cell]:
    difference = MISSING if math.isnan(result.difference) else number(result.difference, form)
    return [
        (result.a, result.a),
        (result.b, result.b),
        (verdict(result), result.verdict),
        (difference, result.difference),
        (interval(result, form), result.low),
        (_runs(result), float(result.n)),
        _seeds_needed(result),
    ]


def _new_images_cells(result: "Result", form: str) -> list[Cell]:
    if result.verdict_new_images is None or result.low_new_images is None or result.high_new_images is None:
        return [(MISSING, ""), (MISSING, -math.inf), (MISSING, -1.0)]
    images = result.images_needed
    return [
        (result.verdict_new_images, result.verdict_new_images),
        (bounds(result.low_new_images, result.high_new_images, form), result.low_new_images),
        (MISSING, -1.0) if images is None else (f"{images:,}", float(images)),
    ]


def verdict(result: "Result") -> str:
    """The verdict, with the number of outliers if they are the reason why there is none."""
    if result.outliers and result.verdict == "undecided":
        return f"undecided (outliers: {result.outliers} of {result.n_a + result.n_b} runs)"
    return result.verdict


def interval(result: "Result", form: str) -> str:
    """The interval, "any" if it is infinite, "empty" if it is empty."""
    return bounds(result.low, result.high, form)


def bounds(low: float, high: float, form: str) -> str:
    """The bounds of an interval, "any" if they are infinite, "empty" if the lower one is above the higher one."""
    if low > high:
        return "empty"
    if not math.isfinite(low):
        return "any"
    return " … ".join(number(end, form) for end in (low, high))


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
        return "every seed has the same difference; a resolution (--resolution) is needed for a verdict"
    if not result.paired:
        return "runs with common seeds would probably need fewer seeds for a verdict"
    if result.outliers:
        return f"{result.outliers} of {result.n_a + result.n_b} runs are outliers, such as diverged runs"
    if result.low > result.high:
        return "its intervals at different numbers of seeds exclude each other"
    if result.n < 2:
        return "an interval needs at least two runs"
    if result.seeds_projected is None:  # so is the worst case, which is never earlier
        return f"undecided at {result.n} seeds, and no verdict is projected at any number of seeds"
    worst_case = f", in the worst case at {result.seeds_worst_case:,}" if result.seeds_worst_case else ""
    return f"undecided at {result.n} seeds: a verdict is projected at {result.seeds_projected:,}{worst_case}"


def number_forms(results: Sequence["Result"]) -> list[str]:
    """The format of the numbers of each result.

    All results have the same number of decimals: two digits of the narrowest half-width, but at most one more than the
    median half-width needs. A narrower one, and a result that is better or worse with a bound that would be rounded to
    0, have more. Where numbers would take more than `MAX_DIGITS` digits, they have exponents and each result has two
    digits of its half-width.
    """
    if not results:
        return []
    largest = [_largest(result) for result in results]
    decimals = _shared_decimals(results)
    most = MAX_DIGITS - 1 - max(_exponent(max(largest)), 0)
    if decimals <= most:
        return [f"{{:+.{_own_decimals(result, decimals, most)}f}}" for result in results]
    return [_exponent_form(size, _scale(result)) for size, result in zip(largest, results, strict=True)]


def _own_decimals(result: "Result", shared: int, most: int) -> int:
    """The decimals of a result: those that all share, or more to show its half-width and the sign of its bounds."""
    half = _half_width(result)
    least = max(shared, min(-_exponent(half), most)) if half else shared
    bounds = (
        (result.verdict, result.low, result.high),
        (result.verdict_new_images, result.low_new_images or 0.0, result.high_new_images or 0.0),
    )
    nearest = [min(abs(low), abs(high)) for verdict, low, high in bounds if verdict in ("better", "worse")]
    return max([least, *(_nonzero_decimals(bound, least, most) for bound in nearest)])


def _largest(result: "Result") -> float:
    """The largest absolute value that a result shows."""
    values = (result.difference, result.low, result.high)
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0)


def _half_width(result: "Result") -> float | None:
    """Half the width of the interval; None if it is infinite or 0."""
    half = (result.high - result.low) / 2
    return half if 0 < half < math.inf else None


def _scale(result: "Result") -> float:
    """What the digits of a result are relative to: the half-width, else the difference."""
    return _half_width(result) or (0.0 if math.isnan(result.difference) else abs(result.difference))


def _shared_decimals(results: Sequence["Result"]) -> int:
    """Decimals that show two digits of the narrowest half-width, at most one more than the median one needs.

    Without a half-width: of the smallest difference.
    """
    half_widths = [half for result in results if (half := _half_width(result))]
    scales = sorted(half_widths or [scale for result in results if (scale := _scale(result))])
    if not scales:
        return DEFAULT_DECIMALS
    narrowest, median = (max(1 - _exponent(scale), 0) for scale in (scales[0], scales[len(scales) // 2]))
    return min(narrowest, median + 1)


def _exponent_form(size: float, scale: float) -> str:
    """The format of a number of this size, with two digits of the scale."""
    digits = max(_exponent(size) - _exponent(scale), 0) + 1
    return f"{{:+.{min(digits, 15)}e}}"


def _nonzero_decimals(value: float, least: int, most: int) -> int:
    """The fewest decimals, from `least` to `most`, that do not round a value to 0; `least` if all do."""
    return next((decimals for decimals in range(least, most + 1) if float(f"{value:.{decimals}f}")), least)


def _exponent(value: float) -> int:
    """The decimal exponent of a number, 0 for 0."""
    return math.floor(math.log10(value)) if value else 0


def table(results: "Results") -> str:
    """An aligned table; if it is wider than the terminal, each pair is on a line above its result."""
    names, cells = header(results), [[text for text, _ in row] for row in rows(results)]
    pairs = [[f"{a} → {b}", *others] for a, b, *others in cells]
    return fitting(aligned(names, cells, left=3), ["a → b", *names[2:]], pairs)


def line_width() -> int:
    """The width of lines: that of the terminal, from 60 to 110; 110 if the output is no terminal."""
    return min(max(shutil.get_terminal_size((LINE_WIDTH, 24)).columns, LEAST_WIDTH), LINE_WIDTH)


def fitting(one_line: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a line for each row; if it is wider than the terminal, the first column is on lines of its own.

    If that is still too wide, the columns for new items are in a table below.

    Args:
        one_line: the table with a line for each row.
        header: names of the columns.
        rows: texts [rows, columns].
    """
    if _width(one_line.splitlines()) <= line_width():
        return one_line
    whole = _names_above(header, rows)
    columns = [line for line in whole.splitlines() if line.startswith("  ")]  # names may be longer
    if len(header) <= COLUMNS or _width(columns) <= line_width():
        return whole
    parts = [[*range(COLUMNS)], [0, *range(COLUMNS, len(header))]]
    tables = [_names_above([header[at] for at in part], [[row[at] for at in part] for row in rows]) for part in parts]
    return "\n\n".join(tables)


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines), default=0)


def _names_above(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = aligned(header[1:], [row[1:] for row in rows]).splitlines()
    head, body = lines[: -len(rows)], lines[-len(rows) :]
    indented = [f"  {line}" for line in head]
    for (name, *_), line in zip(rows, body, strict=True):
        indented += [name, f"  {line}"]
    return "\n".join([header[0], *indented])


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of a table, with long headers wrapped.

    Args:
        header: names of the columns.
        rows: texts [rows, columns].
        left: how many columns are left-aligned; the others are right-aligned.
    """
    wrapped = [textwrap.wrap(text, HEADER_WIDTH, break_long_words=False, break_on_hyphens=False) for text in header]
    height = max(map(len, wrapped))
    padded = [[""] * (height - len(lines)) + lines for lines in wrapped]
    head = [list(line) for line in zip(*padded, strict=True)]
    widths = [max(map(len, column)) for column in zip(*head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(_aligned_line(line, widths, left) for line in [*head, rule, *rows])


def _aligned_line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    aligned = [cell.ljust(width) for cell, width in zip(cells[:left], widths[:left], strict=True)]
    aligned += [cell.rjust(width) for cell, width in zip(cells[left:], widths[left:], strict=True)]
    return "  ".join(aligned).rstrip()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    head, *body = [[escaped(cell) for cell in line] for line in (header, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(header), *body])


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list of escaped lines, "" for no lines."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows literally, on one line."""
    # An _ within a word has no meaning in Markdown.
    marked = re.sub(r"[\\`*\[\]<>|~]|\b_|_\b", r"\\\g<0>", text)
    return re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", marked).strip()


def filled(text: str, indent: str = "") -> str:
    """Text wrapped to the width of a terminal, with all lines but the first indented; a number keeps its %."""
    joined = text.replace(" %", "\N{NO-BREAK SPACE}%")
    wrapped = textwrap.fill(
        joined, line_width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped.replace("\N{NO-BREAK SPACE}%", " %")


def number(value: float, form: str) -> str:
    """A formatted number with a typographic minus sign."""
    return form.format(value).replace("-", "−")


def plain(value: float) -> str:
    """A number without trailing zeros."""
    return f"{value:.12g}"
