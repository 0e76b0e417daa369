"""What the simulations share: levels and looks, intervals of many pairs at once, and tables."""

import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from many_seeds.statistics import intervals
from many_seeds.statistics.intervals import BETTER, EQUIVALENT, UNDECIDED, WORSE

LEVEL, MARGIN, STEP = 0.05, 0.05, 0.01  # of all pairs together; points; points
SD = 0.25  # of a pair's difference between seeds, in points
FIRST, MOST = 10, 256  # seeds


def quarter_more(first: int) -> np.ndarray:
    """Numbers of seeds, a quarter more each time, up to `MOST`."""
    return np.array([first, *itertools.takewhile(lambda n: n < MOST, intervals.looks(first)), MOST])


QUARTER = quarter_more(FIRST)


@dataclass(frozen=True)
class Section:
    """The answer to one question.

    Attributes:
        title: the question, or what is compared.
        text: what was simulated; paragraphs have blank lines between them, and items begin with "- ".
        lines: the table, with its header.
        finding: one sentence on what it shows.
    """

    title: str
    text: str
    lines: list[list[str]]
    finding: str

    def __str__(self) -> str:
        parts = [f"## {self.title}", wrapped(self.text), table(self.lines), wrapped(self.finding)]
        return "\n\n".join(parts) + "\n"


def wrapped(text: str) -> str:
    """Text with lines of 120 characters at most."""
    paragraphs = re.split(r"\n(?=\n|- )", text)
    return "\n".join(
        ("\n" if part.startswith("\n") else "")
        + textwrap.fill(" ".join(part.split()), 120, subsequent_indent="  " * part.strip().startswith("- "))
        for part in paragraphs
    )


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first line is its header."""
    header, *rows = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


def percent(events: np.ndarray) -> str:
    return f"{100 * events.mean():.1f} %"


def errors(events: np.ndarray) -> str:
    """The share of wrong verdicts, in bold if it is above the promise."""
    return f"**{percent(events)}**" if events.mean() > LEVEL else percent(events)


def in_parts(
    simulate: Callable[[np.random.Generator, int], dict[str, np.ndarray]],
    entropy: Sequence[int],
    studies: int,
    at_once: int,
) -> dict[str, np.ndarray]:
    """What a simulation gives for many studies, a part at a time, so that they fit in memory.

    Args:
        simulate: (generator, studies) to arrays of which the first axis is the studies.
        entropy: of the generator.
        studies: how many.
        at_once: how many in each part.
    """
    generator = np.random.default_rng(entropy)
    parts = [simulate(generator, min(at_once, studies - start)) for start in range(0, studies, at_once)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def moments(differences: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the first n [k] of differences [..., seeds], each [..., k]."""
    mean = np.cumsum(differences, axis=-1)[..., n - 1] / n
    squares = np.cumsum(differences**2, axis=-1)[..., n - 1]
    return mean, np.sqrt(np.maximum(squares - n * mean**2, 0) / (n - 1))


def bounds(differences: np.ndarray, n: np.ndarray, level: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the intervals for the first n [k] of differences [..., seeds], each [..., k].

    Args:
        differences: float [..., seeds].
        n: numbers of seeds, int [k], at least 2.
        level: of each interval, broadcast to [..., k].
    """
    mean, sd = moments(differences, n)
    half = intervals.half_widths(n, level, "open") * np.maximum(sd, STEP)
    return mean - half, mean + half


def plain_codes(differences: np.ndarray, n: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """Verdicts [..., k] by the interval at each number of seeds alone; arguments are those of `bounds`."""
    return intervals.verdict_codes(*bounds(differences, n, level), MARGIN)


def running_codes(differences: np.ndarray, n: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """Verdicts [..., k] by the intersection of the intervals at 2, 3, …, n seeds, as in the study."""
    low, high = bounds(differences, np.arange(2, int(n.max()) + 1), level)
    low, high = np.maximum.accumulate(low, axis=-1)[..., n - 2], np.minimum.accumulate(high, axis=-1)[..., n - 2]
    return np.where(low > high, UNDECIDED, intervals.verdict_codes(low, high, MARGIN))


def first_verdicts(codes: np.ndarray) -> np.ndarray:
    """The first verdict of each pair [...], at looks in the last axis of codes [..., k]; undecided if there is none."""
    first = (codes != UNDECIDED).argmax(axis=-1)
    return np.take_along_axis(codes, first[..., None], axis=-1)[..., 0]


def wrong(codes: np.ndarray, truths: np.ndarray | float) -> np.ndarray:
    """Whether verdicts are wrong, for true differences of the same shape."""
    return (
        ((codes == EQUIVALENT) & (np.abs(truths) >= MARGIN))
        | ((codes == BETTER) & (truths <= 0))
        | ((codes == WORSE) & (truths >= 0))
    )


INTERVALS = {"at each look": plain_codes, "running intersection": running_codes}
