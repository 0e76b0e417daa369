"""Intervals for the mean of paired differences, the verdict that is read off them, and projections: pure functions.

The interval of the open design is a confidence sequence: it holds at every number of seeds at once, whenever you look,
so seeds may be added until there is a verdict. It assumes that the differences are independent from seed to seed and
roughly normal, and that no seed is left out because of its score.

References: Wang and Ramdas 2025, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance", Sequential Analysis 44(1), section 4, Theorem 4.9; the idea is due to Lai 1976, "On confidence sequences",
Annals of Statistics 4(2). Verdicts from one repeated interval: Jennison and Turnbull 1993, "Sequential equivalence
testing and repeated confidence intervals", Biometrics 49.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Design = Literal["open", "fixed"]
Verdict = Literal["undecided", "equivalent", "better", "worse"]

VERDICTS: tuple[Verdict, ...] = ("undecided", "equivalent", "better", "worse")
UNDECIDED, EQUIVALENT, BETTER, WORSE = range(4)

MAX_PROJECTION = 1_000_000  # seeds; a projection beyond is of no use


@dataclass(frozen=True)
class Interval:
    """A closed interval; infinite on both sides where the data rule nothing out."""

    low: float
    high: float


def half_width(n: np.ndarray | int, level: float, design: Design = "open") -> np.ndarray:
    """Half-width of the interval for n differences, in standard deviations (ddof 1).

    Open design: the means whose likelihood ratio against "mean/sd is drawn from N(0, 1)" stays below 1 / level. By
    Ville's inequality they exclude the true mean at any n with probability `level` at most. Fixed design: Student's t,
    for one look at a number of seeds that was fixed in advance.

    Args:
        n: number of differences, of any shape.
        level: probability that the interval misses, 0 < level < 1.
        design: "open" if seeds may be added after a look, "fixed" if not.

    Returns:
        float64 of n's shape; infinite for n < 2, and in the open design where n is too small to exclude any mean.

    Raises:
        ValueError: level is not a probability, or the design is unknown.
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected 0 < level < 1, received {level}.")
    n = np.asarray(n, dtype=np.float64)
    infinite = n < 2
    n = np.where(infinite, 2, n)  # avoids warnings about what is infinite anyway
    if design == "fixed":
        half = special.stdtrit(n - 1, 1 - level / 2) / np.sqrt(n)  # scipy.stats takes a second to import
    elif design == "open":
        threshold = ((n + 1) / level**2) ** (1 / n)
        infinite = infinite | (threshold >= n + 1)
        remainder = np.where(infinite, 1, n + 1 - threshold)
        half = np.sqrt((threshold - 1) * (n + 1) * (n - 1) / (n * remainder))
    else:
        raise ValueError(f"Expected the design open or fixed, received {design!r}.")
    return np.where(infinite, np.inf, half)


def interval(values: npt.ArrayLike, *, level: float = 0.05, step: float = 0.0, design: Design = "open") -> Interval:
    """Interval for the mean of paired differences, or of the scores of one variant.

    Args:
        values: float [n], in any unit.
        level: probability that it misses. For m intervals that shall hold simultaneously, divide it by m.
        step: the smallest difference that two scores can have (1 / test images, for an accuracy), in the same unit. The
            standard deviation counts as this at least, so that a few equal scores prove nothing.
        design: see `half_width`.

    Raises:
        ValueError: values are empty, not one-dimensional or not finite.

    Example:
        >>> interval(np.arange(1, 11) / 10, level=0.05)
        Interval(low=0.17949..., high=0.92050...)
    """
    of = _finite(values)
    mean, half = float(of.mean()), float(half_width(len(of), level, design))
    if np.isfinite(half):
        half *= standard_deviation(of, step)
    return Interval(mean - half, mean + half)


def standard_deviation(values: np.ndarray, step: float) -> float:
    """Standard deviation (ddof 1) of values [n], n > 1, at least `step`."""
    return max(float(np.std(values, ddof=1)), step)


def verdict_codes(low: np.ndarray | float, high: np.ndarray | float, margin: float) -> np.ndarray:
    """Verdicts as indices into `VERDICTS`, for intervals low … high of any shape.

    Equivalent comes first: a difference within the margin is negligible, however sure it is.
    """
    low, high = np.asarray(low), np.asarray(high)
    equivalent = (-margin < low) & (high < margin)
    return np.select([equivalent, low > 0, high < 0], [EQUIVALENT, BETTER, WORSE], UNDECIDED)


def verdict(interval: Interval, margin: float) -> Verdict:
    """The verdict on b against a from the interval of b − a; `margin` is in the interval's unit."""
    return VERDICTS[int(verdict_codes(interval.low, interval.high, margin))]


def welch_interval(a: np.ndarray, b: np.ndarray, *, level: float, step: float) -> Interval:
    """Interval for mean(a) − mean(b) of unpaired samples [n] and [m] with unequal variances, at one look.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34.

    Args:
        a: float [n].
        b: float [m].
        level: probability that it misses.
        step: lower bound of both standard deviations, see `interval`.

    Returns:
        The interval; infinite for n < 2 or m < 2.

    Raises:
        ValueError: a or b is empty, not one-dimensional or not finite.
    """
    a, b = _finite(a), _finite(b)
    if min(len(a), len(b)) < 2:
        return Interval(-np.inf, np.inf)
    of_a, of_b = standard_deviation(a, step) ** 2 / len(a), standard_deviation(b, step) ** 2 / len(b)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    difference = float(a.mean() - b.mean())
    half = float(special.stdtrit(freedom, 1 - level / 2) * (of_a + of_b) ** 0.5)
    return Interval(difference - half, difference + half)


def looks(n: int, at_least: int = 1) -> Iterator[int]:
    """The numbers of seeds at which to look after n: a quarter more each time, and at least `at_least` more."""
    while True:
        n += max(at_least, -(-n // 4))
        yield n


def projected_seeds(n: int, mean: float, sd: float, *, level: float, margin: float) -> int | None:
    """The first look after n with a verdict, if mean and standard deviation stay as they are; None if there is none.

    A projection, not covered by the guarantee. It assumes the open design: adding seeds makes any design open.
    """
    mean = abs(mean)
    halves = ((seeds, sd * half) for seeds, half in _half_widths(n, level))
    return next((seeds for seeds, half in halves if half < mean or mean + half < margin), None)


def worst_case_seeds(n: int, sd: float, *, level: float, margin: float) -> int | None:
    """The first look after n with a verdict whatever the mean is, if the standard deviation stays as it is."""
    return next((seeds for seeds, half in _half_widths(n, level) if sd * half < margin / 2), None)


def image_error(difference: np.ndarray) -> float:
    """1.96 standard errors over the test images of a seed-averaged difference, in percentage points.

    It says how far the mean would move with other test images, which no number of seeds changes. It assumes independent
    images.

    Args:
        difference: float [images], the share of seeds for which b is right minus that for which a is.
    """
    return float(1.96 * 100 * difference.std(ddof=1) / len(difference) ** 0.5)


@functools.lru_cache(maxsize=256)  # many pairs have the same number of seeds
def _half_widths(n: int, level: float) -> list[tuple[int, float]]:
    seeds = list(itertools.takewhile(lambda seeds: seeds <= MAX_PROJECTION, looks(n)))
    return list(zip(seeds, half_width(np.array(seeds), level).tolist(), strict=True))


def _finite(values: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(f"Expected finite numbers [n], n > 0, received {array.tolist()}.")
    return array
