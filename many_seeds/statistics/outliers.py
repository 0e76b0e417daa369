"""Outliers among the runs of a variant, such as diverged runs, and a test that they can't mislead: pure functions."""

import math

import numpy as np
import scipy

from many_seeds.statistics.intervals import ROUNDING

LEAST_RUNS = 10  # with fewer, normal data would often have an outlier
FACTOR = 10  # of the median absolute deviation, or of the resolution


def outliers(scores: np.ndarray, resolution: float) -> np.ndarray:
    """Whether each run is an outlier: farther from the median than 10 median absolute deviations.

    Farther than 10 times the resolution as well. Of normal scores of ten runs, 1.2 % have an outlier.

    Args:
        scores: float [..., runs], of one variant each.
        resolution: the smallest nonzero difference of two scores, 0 if unknown.

    Returns:
        bool [..., runs]; all False for fewer than ten runs.
    """
    if scores.shape[-1] < LEAST_RUNS:
        return np.zeros(scores.shape, bool)
    distances = np.abs(scores - np.median(scores, axis=-1, keepdims=True))
    rounding = ROUNDING * np.abs(scores).max(axis=-1, keepdims=True)
    limit = FACTOR * np.maximum(np.median(distances, axis=-1, keepdims=True), resolution)
    return distances > np.maximum(limit, rounding)


def sign_test(differences: np.ndarray, level: float) -> int:
    """The sign of most differences, if a sequential sign test finds that it has a majority.

    The evidence is the likelihood ratio of a uniformly distributed probability of a positive difference to 1/2, without
    ties: E = 2ⁿ · B(k + 1, n − k + 1) for k positive ones of n. By Ville's inequality, E ≥ 1/level at any n has
    probability `level` at most if both signs are equally probable. If all have one sign, E = 2ⁿ / (n + 1).

    Args:
        differences: float [seeds].
        level: the probability of a wrong sign.

    Returns:
        1 or -1, or 0 if the test finds no majority.

    Example:
        >>> sign_test(np.ones(13), level=0.002), sign_test(np.ones(12), level=0.002)
        (1, 0)
    """
    positive, negative = (np.asarray(np.count_nonzero(sign * differences > 0)) for sign in (1, -1))
    return int(majorities(positive, negative, level))


def majorities(positive: np.ndarray, negative: np.ndarray, level: float) -> np.ndarray:
    """The results of `sign_test` from the numbers of positive and negative differences.

    Args:
        positive: int of any shape.
        negative: int, of the same shape.
        level: the probability of a wrong sign.

    Returns:
        1, -1 or 0, of the same shape.
    """
    n = positive + negative
    evidence = n * math.log(2) + scipy.special.betaln(positive + 1, negative + 1)
    return np.where(evidence < -math.log(level), 0, np.sign(positive - negative))
