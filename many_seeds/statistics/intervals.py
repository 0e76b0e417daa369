"""Intervals for the mean of paired differences, the verdict that is read off them, and projections: pure functions.

The interval of the open design is a confidence sequence. It is anytime-valid: it holds at any number of seeds, whenever
you look, so seeds may be added until there is a verdict. It assumes independent runs with roughly normal differences,
none left out because of its score.

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
import scipy

Design = Literal["open", "fixed"]
Verdict = Literal["undecided", "equivalent", "better", "worse"]

VERDICTS: tuple[Verdict, ...] = ("undecided", "equivalent", "better", "worse")
UNDECIDED, EQUIVALENT, BETTER, WORSE = range(4)

MAX_PROJECTION = 1_000_000  # seeds; more are out of reach
ROUNDING = 8 * float(np.finfo(np.float64).eps)  # relative to the largest value: smaller differences come from rounding


@dataclass(frozen=True)
class Interval:
    """A closed interval.

    Attributes:
        low: lower bound; -inf if the data exclude no value.
        high: upper bound; inf likewise.
    """

    low: float
    high: float


def half_width(n: np.ndarray | int, level: float, design: Design = "open") -> np.ndarray:
    """Half-width of the interval for the mean of n differences, in standard deviations (ddof 1).

    Open design: the means whose likelihood ratio against "mean/sd is drawn from N(0, 1)" stays below 1 / level
    (Wang and Ramdas 2025, Theorem 4.9). By Ville's inequality, the probability that they exclude the true mean at any n
    is at most `level`. Fixed design: Student's t, for one look at a number of seeds that was fixed in advance.

    Args:
        n: number of differences, int of any shape.
        level: the probability that the interval misses, 0 < level < 1.
        design: "open" if seeds may be added after a look, "fixed" if not.

    Returns:
        float64 of the shape of n; infinite for n < 2, and in the open design if n is too small to exclude any mean.

    Raises:
        ValueError: level is not between 0 and 1, or the design is unknown.

    Example:
        >>> half_width(np.array([4, 10, 100]), level=0.05).round(3)
        array([  inf, 1.224, 0.335])
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected 0 < level < 1, received {level}.")
    return half_widths(np.asarray(n), level, design)


def half_widths(n: np.ndarray, level: np.ndarray | float, design: Design) -> np.ndarray:
    """The same for levels of the shape of n, 0 < level ≤ 1."""
    n = n.astype(np.float64)
    infinite = n < 2
    n = np.where(infinite, 2, n)  # avoids warnings where the result is infinite
    if design == "fixed":
        half = scipy.special.stdtrit(n - 1, 1 - level / 2) / np.sqrt(n)
    elif design == "open":
        threshold = ((n + 1) / level**2) ** (1 / n)
        infinite = infinite | (threshold >= n + 1)
        remainder = np.where(infinite, 1, n + 1 - threshold)
        half = np.sqrt((threshold - 1) * (n + 1) * (n - 1) / (n * remainder))
    else:
        raise ValueError(f"Expected the design open or fixed, received {design!r}.")
    return np.where(infinite, np.inf, half)


def interval(
    values: npt.ArrayLike, *, level: float = 0.05, resolution: float = 0.0, design: Design = "open"
) -> Interval:
    """Interval for the mean of paired differences, or of the scores of one variant.

    Args:
        values: float [n], in any unit.
        level: the probability that the interval misses. For m intervals that hold simultaneously, divide it by m
            (Bonferroni).
        resolution: the smallest nonzero difference of two scores, in the unit of the values, such as 1 / test images
            for an accuracy. The standard deviation counts as at least this, so that a few equal scores are no evidence.
        design: see `half_width`.

    Returns:
        The interval, in the unit of the values; infinite for too few values, see `half_width`, and if all are equal but
        for rounding and no resolution is given, so that they have no information on their uncertainty.

    Raises:
        ValueError: values are empty, not one-dimensional or not finite, level is not between 0 and 1, resolution is
            negative or not finite, or the design is unknown.

    Example:
        >>> interval(np.arange(1, 11) / 10, level=0.05)
        Interval(low=0.17949..., high=0.92050...)
    """
    sample = _finite(values)
    if not 0 <= resolution < np.inf:
        raise ValueError(f"Expected a resolution of 0 or more, received {resolution}.")
    mean, half = float(sample.mean()), float(half_width(len(sample), level, design))
    if not resolution and np.ptp(sample) <= ROUNDING * np.abs(sample).max():
        half = np.inf
    if np.isfinite(half):
        half *= standard_deviation(sample, resolution)
    return Interval(mean - half, mean + half)


def intervals_by_n(
    values: npt.ArrayLike, *, level: float, resolution: float = 0.0, rounding: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals of the open design for the first 1, 2, …, n values.

    Args:
        values: float [..., n], in any unit.
        level: see `interval`.
        resolution: see `interval`.
        rounding: values that differ by this at most are equal.

    Returns:
        Lower and upper bounds, float64 [..., n] each; infinite where too few values exclude no mean, and where all are
        equal and no resolution is given, so that they have no information on their uncertainty.

    Raises:
        ValueError: values are empty or not finite.
    """
    sample = _finite(values, one_dimensional=False)
    n = np.arange(1, sample.shape[-1] + 1)
    center = sample.mean(axis=-1, keepdims=True)
    means = np.cumsum(sample - center, axis=-1) / n  # centered: sums of squares lose no digits
    squares = np.maximum(np.cumsum((sample - center) ** 2, axis=-1) - n * means**2, 0)
    sd = np.maximum(np.sqrt(squares / np.maximum(n - 1, 1)), resolution)
    half = half_width(n, level)
    half = np.where(np.isfinite(half), half, 1) * np.where(np.isfinite(half), sd, np.inf)
    if not resolution:
        spread = np.maximum.accumulate(sample, axis=-1) - np.minimum.accumulate(sample, axis=-1)
        half = np.where(spread <= rounding, np.inf, half)
    return center + means - half, center + means + half


def running_interval(
    values: npt.ArrayLike, *, level: float, resolution: float = 0.0, rounding: float = 0.0
) -> Interval:
    """The intersection of the intervals of the open design for the first 2, 3, …, n values.

    With probability 1 - level the intervals for all n contain the mean, and then so does their intersection, which
    never gets wider as values are added. It needs values in the order in which they were added.

    Arguments and errors are those of `intervals_by_n`.

    Returns:
        The intersection. If it is empty, low > high: the assumptions do not hold, or an event of probability `level`
        has occurred.
    """
    low, high = intervals_by_n(values, level=level, resolution=resolution, rounding=rounding)
    last = interval(values, level=level, resolution=resolution)
    return Interval(max(float(low.max()), last.low), min(float(high.min()), last.high))


def standard_deviation(values: np.ndarray, resolution: float) -> float:
    """Standard deviation (ddof 1) of values, float [n] with n > 1, at least the resolution."""
    return max(float(np.std(values, ddof=1)), resolution)


def verdict_codes(low: np.ndarray | float, high: np.ndarray | float, margin: float) -> np.ndarray:
    """Verdicts on b from intervals of b − a.

    Equivalence comes first: a difference within the margin is negligible, also if the interval excludes 0.

    Args:
        low: lower bounds, of any shape.
        high: upper bounds, of the same shape.
        margin: equivalence margin, in the unit of the intervals.

    Returns:
        Indices into `VERDICTS`, of the same shape.
    """
    low, high = np.asarray(low), np.asarray(high)
    equivalent = (-margin < low) & (high < margin)
    return np.select([equivalent, low > 0, high < 0], [EQUIVALENT, BETTER, WORSE], UNDECIDED)


def verdict(interval: Interval, margin: float) -> Verdict:
    """The verdict on b from the interval of b − a.

    Args:
        interval: of b − a.
        margin: equivalence margin, in the unit of the interval.

    Returns:
        One of `VERDICTS`.

    Example:
        >>> verdict(Interval(0.01, 0.04), margin=0.05)
        'equivalent'
    """
    return VERDICTS[int(verdict_codes(interval.low, interval.high, margin))]


def mirrored(interval: Interval) -> Interval:
    """The interval for a − b from that for b − a."""
    return Interval(-interval.high, -interval.low)


def welch_interval(a: np.ndarray, b: np.ndarray, *, level: float, resolution: float) -> Interval:
    """Welch's interval for mean(b) − mean(a) of unpaired samples with unequal variances, for one look.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34.

    Args:
        a: float [n].
        b: float [m].
        level: the probability that the interval misses.
        resolution: lower bound of both standard deviations, see `interval`.

    Returns:
        The interval; infinite for n < 2 or m < 2.

    Raises:
        ValueError: a or b is empty, not one-dimensional or not finite.
    """
    a, b = _finite(a), _finite(b)
    if min(len(a), len(b)) < 2:
        return Interval(-np.inf, np.inf)
    error_a = standard_deviation(a, resolution) ** 2 / len(a)
    error_b = standard_deviation(b, resolution) ** 2 / len(b)
    freedom = (error_a + error_b) ** 2 / (error_a**2 / (len(a) - 1) + error_b**2 / (len(b) - 1))
    difference = float(b.mean() - a.mean())
    half = float(scipy.special.stdtrit(freedom, 1 - level / 2) * (error_a + error_b) ** 0.5)
    return Interval(difference - half, difference + half)


def looks(n: int, at_least: int = 1) -> Iterator[int]:
    """The numbers of seeds after n at which to look: a quarter more each time, and at least `at_least` more."""
    while True:
        n += max(at_least, -(-n // 4))
        yield n


def projected_seeds(n: int, mean: float, sd: float, *, level: float, margin: float) -> int | None:
    """The first look after n with a verdict if mean and standard deviation stay as they are.

    A projection, which the guarantee does not cover. It is for the open design, since adding seeds makes any design
    open.

    Args:
        n: number of differences.
        mean: their mean.
        sd: their standard deviation (ddof 1), in the same unit.
        level: the probability that the interval misses.
        margin: equivalence margin, in the same unit.

    Returns:
        A number of seeds; None if there is no verdict up to `MAX_PROJECTION` seeds.
    """
    mean = abs(mean)
    half_widths = ((seeds, sd * half) for seeds, half in _half_widths(n, level))
    return next((seeds for seeds, half in half_widths if half < mean or mean + half < margin), None)


def worst_case_seeds(n: int, sd: float, *, level: float, margin: float) -> int | None:
    """The first look after n with a verdict for any mean if the standard deviation stays as it is.

    Arguments and the result are those of `projected_seeds`.
    """
    return next((seeds for seeds, half in _half_widths(n, level) if sd * half < margin / 2), None)


@functools.lru_cache(maxsize=256)  # pairs often have the same number of seeds
def _half_widths(n: int, level: float) -> list[tuple[int, float]]:
    seeds = list(itertools.takewhile(lambda seeds: seeds <= MAX_PROJECTION, looks(n)))
    return list(zip(seeds, half_width(np.array(seeds), level).tolist(), strict=True))


def _finite(values: npt.ArrayLike, *, one_dimensional: bool = True) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    expected = array.ndim == 1 or (array.ndim > 1 and not one_dimensional)
    if not expected or array.size == 0 or not np.isfinite(array).all():
        shape = "[n]" if one_dimensional else "[..., n]"
        raise ValueError(f"Expected finite numbers {shape}, n > 0, received {array.tolist()}.")
    return array
