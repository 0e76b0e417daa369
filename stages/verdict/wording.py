"""Answers in words and numbers: for a terminal, as Markdown, as JSON, and for the gate."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages import gate, layout, sequential
from stages.verdict import sources
from stages.verdict.answers import Answer, Settings
from stages.verdict.sources import Scores

NOTHING = "–"
FIXED_DIGITS = 8  # of a number without a power of ten


def promise(questions: int, settings: Settings) -> list[str]:
    """What the intervals promise, how a verdict is read off them, and when another design had been right."""
    holds = f"The m = {questions:,} intervals hold together" if questions > 1 else "The interval holds"
    with_confidence = f"with {plain(100 * settings.confidence)} % confidence"
    if settings.design == "open":
        how = "however many seeds were added and whenever one looked (--design open)"
        other = (
            "If the number of runs was fixed before any score was seen, and this is the only look, --design fixed was "
            "the right choice, with narrower intervals."
        )
    else:
        how = "at this one look, for a number of runs that was fixed before any score was seen (--design fixed)"
        other = "Whoever has looked before, or adds runs after this, has to choose --design open."
    way = "lower" if settings.lower_is_better else "higher"
    equal = f"equivalent if all of it lies within ±{plain(settings.margin)}, else" if settings.margin else ""
    reading = (
        f"A verdict says what b is against a, read off the interval: {equal} better or worse if it leaves out 0 ({way} "
        "is better)."
    )
    if not settings.margin:
        reading += " Without --margin nothing can be equivalent."
    takes = "It takes runs for independent and roughly normal, and none left out because of its score."
    return [f"{holds} {with_confidence}, {how}. {other}", f"{' '.join(reading.split())} {takes}"]


def plain(value: float) -> str:
    return f"{value:.12g}"


def remarks(scores: Scores, found: Sequence[Answer]) -> list[str]:
    """What else is to be known of the scores, a sentence each."""
    said = list(scores.remarks)
    if alone := [name for name, runs in scores.variants.items() if len(runs.scores) == 1]:
        said.append(f"one run only, of which nothing can be said: {sources.named(alone)}")
    if same := [f"{answer.a}:{answer.b} ({answer.n_a} seeds)" for answer in found if answer.verdict == gate.UNCHANGED]:
        said.append(f"unchanged, with the same score in every seed: {sources.named(same)}")
    if tied := [f"{answer.a}:{answer.b}" for answer in found if answer.tied]:
        said.append(
            f"every seed shows the same difference, so that nothing tells how sure it is: {sources.named(tied)}. Say "
            "with --step the smallest difference that two runs can have (1 / the number of test images, for an "
            "accuracy); or take out what does not depend on its seed"
        )
    if apart := [f"{answer.a}:{answer.b}" for answer in found if not answer.paired]:
        said.append(f"not paired by seed, so by Welch's interval: {sources.named(apart)}")
    unused = []
    for answer in found:
        counts = [len(scores.variants[name].scores) for name in (answer.a, answer.b)]
        if answer.paired and max(counts) > answer.n_a:
            seeds = sources.counted(answer.n_a, "seed")
            unused.append(f"{answer.a}:{answer.b} ({counts[0]} and {counts[1]} runs, {seeds} shared)")
    return said + ([f"compared on the seeds that both have: {sources.named(unused)}"] if unused else [])


def findings(found: Sequence[Answer]) -> list[gate.Finding]:
    """For the gate: what b is in each pair."""
    said = []
    for answer, form in zip(found, number_forms(found), strict=True):
        why = f"{layout.number(answer.difference, form)} against {answer.a}, interval {_span(answer, form)}"
        if answer.verdict == gate.UNCHANGED:
            why = f"the same score as {answer.a} in every seed"
        elif answer.verdict == "undecided":
            why += f"; {_still(answer)}"
        said.append(gate.Finding(answer.b, answer.verdict, why))
    return said


def _still(answer: Answer) -> str:
    if answer.tied:
        return "every seed shows the same difference, and only --step would tell how sure it is"
    if not answer.paired:
        return "runs of the same seeds would probably decide it sooner"
    return gate.undecided(answer.n_a, answer.seeds_about, answer.seeds_at_most)


def number_forms(found: Sequence[Answer]) -> list[str]:
    """How the numbers of each answer are written.

    All with as many decimals as the narrowest interval deserves. Where that makes long numbers, with powers of ten, and
    as many digits as their own interval deserves.
    """
    halves = [(answer.high - answer.low) / 2 for answer in found]
    sizes = [
        half if 0 < half < math.inf else abs(answer.difference) for half, answer in zip(halves, found, strict=True)
    ]
    largest = [
        max(abs(value) for value in (answer.difference, answer.low, answer.high) if math.isfinite(value))
        for answer in found
    ]
    known = [half for half in halves if 0 < half < math.inf] or [size for size in sizes if size]
    decimals = max(1 - _power(min(known)), 0) if known else 3
    if max(_power(max(largest)), 0) + 1 + decimals <= FIXED_DIGITS:
        return [f"{{:+.{decimals}f}}"] * len(found)
    return [
        f"{{:+.{min(max(_power(value) - _power(size), 0) + 1, 15)}e}}"
        for value, size in zip(largest, sizes, strict=True)
    ]


def _power(value: float) -> int:
    """The power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(value)) if value else 0


def rows(found: Sequence[Answer]) -> list[list[str]]:
    return [
        [
            *(answer.a, answer.b, answer.verdict, layout.number(answer.difference, form)),
            *(_span(answer, form), answer.n, _seeds(answer)),
        ]
        for answer, form in zip(found, number_forms(found), strict=True)
    ]


def header(metric: str) -> list[str]:
    return [
        "a",
        "b",
        "b is",
        f"{metric}, b\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}a",
        "interval",
        "n",
        "seeds to decide it: about (at most)",
    ]


def _span(answer: Answer, form: str) -> str:
    if not math.isfinite(answer.low):
        return "any"
    return " … ".join(layout.number(end, form) for end in (answer.low, answer.high))


def _seeds(answer: Answer) -> str:
    about, most = answer.seeds_about, answer.seeds_at_most
    if about is None:
        return NOTHING
    return f"{about:,}" if most is None else f"{about:,} ({most:,})"


def in_words(found: Sequence[Answer]) -> str:
    """How many questions are decided, and how."""
    words = [*sequential.VERDICTS[::-1], gate.UNCHANGED]
    counts = [(word, sum(answer.verdict == word for answer in found)) for word in words]
    said = ", ".join(f"{count:,} {word}" for word, count in counts if count)
    return f"{sources.counted(len(found), 'question')}: {said}"


def as_text(metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings) -> str:
    """An aligned table, what it promises, what else there is to know, and what the gate says."""
    parts = [
        _table(header(metric), rows(found)),
        "\n".join(layout.filled(line) for line in promise(len(found), settings)),
    ]
    for lines in (notes, says):
        if lines:
            parts.append("\n".join(layout.filled(line, "  ") for line in lines))
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """An aligned table; where long names make it wider than a terminal, each pair is on a line above its answer."""
    whole = layout.aligned(head, cells, words=3)
    if max(map(len, whole.splitlines())) <= layout.LINE_WIDTH:
        return whole
    lines = layout.aligned(head[2:], [row[2:] for row in cells]).splitlines()
    pairs = [f"{a} → {b}" for a, b, *_ in cells]
    below = [f"{pair}\n  {line}" for pair, line in zip(pairs, lines[-len(cells) :], strict=True)]
    return "\n".join(["a → b", *(f"  {line}" for line in lines[: -len(cells)]), *below])


def as_markdown(
    metric: str, found: Sequence[Answer], notes: Sequence[str], says: Sequence[str], settings: Settings
) -> str:
    table = layout.markdown(header(metric), rows(found))
    parts = [f"## {in_words(found)}", *(["\n".join(f"- {layout.escaped(line)}" for line in says)] if says else [])]
    parts += [table, *promise(len(found), settings)]
    if notes:
        parts.append("\n".join(f"- {layout.escaped(line)}" for line in notes))
    return "\n\n".join(parts) + "\n"


def as_json(metric: str, found: Sequence[Answer], notes: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The same for programs; an end of an interval that rules out nothing is None."""
    return {
        "metric": metric,
        "settings": asdict(settings),
        "questions": len(found),
        "answers": [
            {name: None if value in (math.inf, -math.inf) else value for name, value in asdict(answer).items()}
            for answer in found
        ],
        "remarks": list(notes),
    }
