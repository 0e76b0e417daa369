"""One interval for each pair, and the verdict that is read off it: pure functions over arrays.

A pair (a, b) is compared by the differences b − a of its scores, one for each seed. Its interval holds at every number
of seeds at once, whenever anyone looks, so that seeds may be added until the question is decided. It takes the
differences for independent from seed to seed and roughly normal, and the seeds to be 0, 1, 2, … with none left out for
its score.

Sources: Wang and Ramdas 2025, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance", Sequential Analysis 44(1), section 4, Theorem 4.9; the idea is of Lai 1976, "On confidence sequences", Annals
of Statistics 4(2). Verdicts read off one repeated interval: Jennison and Turnbull 1993, "Sequential equivalence testing
and repeated confidence intervals", Biometrics 49.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

Design = Literal["open", "fixed"]
Verdict = Literal["undecided", "equivalent", "better", "worse"]

VERDICTS: tuple[Verdict, ...] = ("undecided", "equivalent", "better", "worse")
UNDECIDED, EQUIVALENT, BETTER, WORSE = range(4)

POINTS = 100  # percentage points of one
FARTHEST = 1_000_000  # seeds; a forecast beyond helps nobody


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What the seeds that a pair has in common say of it; differences in percentage points.

    Attributes:
        n: how many seeds.
        difference: their mean.
        low: of the interval; -inf where so few seeds say nothing.
        high: of the interval.
        verdict: b against a.
        seeds_about: if undecided, the seeds that would decide it if mean and spread stay as they are.
        seeds_at_most: if undecided, the seeds that decide it whatever the difference is, if the spread stays.
    """

    n: int
    difference: float
    low: float
    high: float
    verdict: Verdict
    seeds_about: int | None
    seeds_at_most: int | None


def half_width(n: np.ndarray | int, level: float, design: Design = "open") -> np.ndarray:
    """Half of the interval's width for n differences, in standard deviations (with n − 1); infinite for n < 2.

    Open: the set of means whose likelihood ratio against "mean/sd is drawn from N(0, 1)" stays under 1 / level. By
    Ville's inequality it leaves out the truth at any n at all with probability `level` at most. Infinite too where n is
    so small that no mean is ruled out. Fixed: Student's t, for one look at a number of seeds that was fixed before.

    Args:
        n: number of differences, of any shape.
        level: probability that the interval may miss, 0 < level < 1.
        design: whether seeds may still be added.

    Returns:
        float64 of n's shape.

    Raises:
        ValueError: level is not a probability, or the design is unknown.
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected 0 < level < 1, received {level}.")
    n = np.asarray(n, dtype=np.float64)
    few = n < 2
    n = np.where(few, 2, n)  # no warnings for what is infinite anyway
    if design == "fixed":
        found = special.stdtrit(n - 1, 1 - level / 2) / np.sqrt(n)  # scipy.stats takes a second to import
    elif design == "open":
        threshold = ((n + 1) / level**2) ** (1 / n)
        few = few | (threshold >= n + 1)
        left = np.where(few, 1, n + 1 - threshold)
        found = np.sqrt((threshold - 1) * (n + 1) * (n - 1) / (n * left))
    else:
        raise ValueError(f"Expected the design open or fixed, received {design!r}.")
    return np.where(few, np.inf, found)


def interval(values: np.ndarray, *, level: float, step: float, design: Design = "open") -> Interval:
    """Interval for the mean of values [n]: the differences of a pair, or the scores of one variant.

    Args:
        values: float [n], in any unit.
        level: probability that it may miss; for one of m intervals that shall hold together, their level / m.
        step: the worth of one test image in that unit. The spread counts as this at least, so that a few equal scores
            prove nothing.
        design: see half_width.

    Raises:
        ValueError: values are empty, not one-dimensional or not finite.
    """
    values = _finite(values)
    mean, half = float(values.mean()), float(half_width(len(values), level, design))
    if np.isfinite(half):
        half *= spread(values, step)
    return Interval(mean - half, mean + half)


def spread(values: np.ndarray, step: float) -> float:
    """Standard deviation (with n − 1) of values [n], n > 1, but at least the worth of one test image."""
    return max(float(np.std(values, ddof=1)), step)


def verdict_codes(low: np.ndarray | float, high: np.ndarray | float, margin: float) -> np.ndarray:
    """Verdicts, as places in VERDICTS, read off intervals low … high of any shape.

    Equivalent comes first: a difference inside the margin is not worth having, however sure it is.
    """
    low, high = np.asarray(low), np.asarray(high)
    equivalent = (-margin < low) & (high < margin)
    return np.select([equivalent, low > 0, high < 0], [EQUIVALENT, BETTER, WORSE], UNDECIDED)


def verdict(interval: Interval, margin: float) -> Verdict:
    """B against A in a word; `margin` in the interval's unit."""
    return VERDICTS[int(verdict_codes(interval.low, interval.high, margin))]


def digits_part(difference: np.ndarray) -> float:
    """How far other test images could move the mean of `difference` either way, in points: 1.96 standard errors.

    A description, which no number of seeds makes smaller: it takes the images for independent of one another.

    Args:
        difference: float [images], what b gets right more than a of each test image, as a share of the seeds.
    """
    return float(1.96 * POINTS * difference.std(ddof=1) / len(difference) ** 0.5)


def answer(differences: np.ndarray, *, step: float, level: float, margin: float, design: Design = "open") -> Answer:
    """Is b better than a?

    Args:
        differences: float [seeds], b − a of test accuracy, in points, of each seed that both have.
        step: the worth of one test image, in points.
        level: probability that the interval may miss: of the whole family / number of its pairs.
        margin: of equivalence, in points.
        design: see half_width.

    Raises:
        ValueError: differences are empty, not one-dimensional or not finite.
    """
    found = interval(differences, level=level, step=step, design=design)
    word = verdict(found, margin)
    n, mean = len(differences), float(differences.mean())
    about = at_most = None
    if word == "undecided" and n > 1:
        sd = spread(differences, step)
        about = seeds_about(n, mean, sd, level=level, margin=margin)
        at_most = seeds_at_most(n, sd, level=level, margin=margin)
    return Answer(n, mean, found.low, found.high, word, about, at_most)


def looks(n: int, at_least: int = 1) -> Iterator[int]:
    """The numbers of seeds at which one would look after n: a quarter more each time, and at least so many more."""
    while True:
        n += max(at_least, -(-n // 4))
        yield n


def seeds_about(n: int, mean: float, sd: float, *, level: float, margin: float) -> int | None:
    """The look after n that would decide a pair whose differences keep this mean and sd; None where none would.

    A forecast, outside of the promise. Adding seeds makes the design open, whatever it was.
    """
    mean = abs(mean)
    return _first((seeds, half) for seeds, half in _halves(n, sd, level) if half < mean or mean + half < margin)


def seeds_at_most(n: int, sd: float, *, level: float, margin: float) -> int | None:
    """The look after n that decides a pair of this sd whatever its mean is: an interval narrower than the margin."""
    return _first((seeds, half) for seeds, half in _halves(n, sd, level) if half < margin / 2)


def welch_interval(a: np.ndarray, b: np.ndarray, *, level: float, step: float) -> Interval:
    """Interval for mean(a) − mean(b) of samples [n] and [m] that are not paired and may differ in spread.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34. `step`, the worth of one test image, is the least spread of either. Infinite for n < 2 or m < 2.

    Raises:
        ValueError: a or b is empty, not one-dimensional or not finite.
    """
    a, b = _finite(a), _finite(b)
    if min(len(a), len(b)) < 2:
        return Interval(-np.inf, np.inf)
    of_a, of_b = spread(a, step) ** 2 / len(a), spread(b, step) ** 2 / len(b)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    middle = float(a.mean() - b.mean())
    half = float(special.stdtrit(freedom, 1 - level / 2) * (of_a + of_b) ** 0.5)
    return Interval(middle - half, middle + half)


def _halves(n: int, sd: float, level: float) -> Iterator[tuple[int, float]]:
    for seeds, half in _half_widths(n, level):
        yield seeds, sd * half


@functools.lru_cache(maxsize=256)  # a thousand pairs of as many seeds ask for the same
def _half_widths(n: int, level: float) -> list[tuple[int, float]]:
    seeds = list(itertools.takewhile(lambda seeds: seeds <= FARTHEST, looks(n)))
    return list(zip(seeds, half_width(np.array(seeds), level).tolist(), strict=True))


def _first(found: Iterable[tuple[int, float]]) -> int | None:
    return next((seeds for seeds, _ in found), None)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"Expected finite numbers [n], n > 0, received {values.tolist()}.")
    return values
