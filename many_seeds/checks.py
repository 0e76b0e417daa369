"""Checks of scores before they are compared: correlated rows, and too few seeds for the number of pairs."""

import contextlib
from collections.abc import Sequence

import numpy as np
import scipy

from many_seeds.output.messages import counted, listed
from many_seeds.results import Pair, Settings
from many_seeds.sources.scores import Scores, VariantScores
from many_seeds.statistics.intervals import half_width

LEAST_ROWS = 8
FALSE_ALARM = 0.005  # the probability that independent runs are called correlated, about
MOST_SEEDS = 10_000
CORRELATED = (
    "consecutive rows are strongly correlated: {}. Steps or epochs of one run are not seeds: if rows are not "
    "independent runs, the verdicts mean nothing"
)
EQUAL = "variants are called by the same number, but compared as different ones: {}. Write it in one way if it is one"
TOO_FEW = (
    "at m = {:,} pairs, {} can't decide anything: the intervals are infinite below {:,}. Compare with one variant "
    "(--baseline; in Python, baseline=…) or name the pairs of interest (--pairs; pairs=…)"
)


def remarks(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[str]:
    """What makes the verdicts on some pairs doubtful or impossible, one sentence each."""
    found = _correlated(scores, pairs) if scores.paired else []
    return found + _equal_numbers(list(scores.variants)) + _too_few(scores, pairs, settings)


def _correlated(scores: Scores, pairs: Sequence[Pair]) -> list[str]:
    """A remark on variants whose scores, and pairs whose differences, depend on those of the seed before.

    Seeds are in the order of their numbers, so that a table that is sorted by score is not named.
    """
    order = _order(scores.seeds)
    compared = list(dict.fromkeys(name for pair in pairs for name in pair))
    series = {name: _in_order(scores.variants[name], order) for name in compared}
    series |= {f"{a}:{b}": _differences(scores, (a, b), order) for a, b in pairs}
    errors = scipy.special.ndtri(1 - FALSE_ALARM / len(series))
    found = {name: _correlation(values) for name, values in series.items() if len(values) >= LEAST_ROWS}
    named = [f"{name} ({value:.2f})" for name, value in found.items() if _errors(value, len(series[name])) > errors]
    return [CORRELATED.format(listed(named))] if named else []


def _order(seeds: Sequence[str]) -> np.ndarray:
    """The rank of each seed: by its number, or as it comes in the input where a seed is no number."""
    try:
        return np.argsort(np.argsort([float(seed) for seed in seeds], kind="stable"))
    except ValueError:
        return np.arange(len(seeds))


def _in_order(variant: VariantScores, order: np.ndarray) -> np.ndarray:
    return variant.scores[np.argsort(order[variant.seeds])]


def _differences(scores: Scores, pair: Pair, order: np.ndarray) -> np.ndarray:
    a, b = (scores.variants[name] for name in pair)
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    return (b.scores[in_b] - a.scores[in_a])[np.argsort(order[common])]


def _correlation(values: np.ndarray) -> float:
    """The correlation of consecutive values, 0 if all are equal but for rounding."""
    centered = values - values.mean()
    square = float(centered @ centered)
    if square <= (1e-12 * float(np.abs(values).max())) ** 2 * len(values):
        return 0.0
    return float(centered[1:] @ centered[:-1]) / square


def _errors(correlation: float, n: int) -> float:
    """By how many standard errors a correlation of n consecutive values exceeds its mean.

    Of independent normal values it has mean −1/n and variance (n − 2)² / (n² (n − 1)): Moran 1948, "Some theorems
    on time series: II", Biometrika 35.
    """
    return (correlation + 1 / n) * n * np.sqrt(n - 1) / (n - 2)


def _equal_numbers(names: Sequence[str]) -> list[str]:
    """A remark on variants whose names are one number in several forms, such as 0.1 and 1e-1."""
    numbers: dict[float, list[str]] = {}
    for name in names:
        with contextlib.suppress(ValueError):
            numbers.setdefault(float(name), []).append(name)
    return [EQUAL.format(listed(several)) for several in numbers.values() if len(several) > 1]


def _too_few(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[str]:
    """A remark if no pair has enough seeds for a finite interval, and one pair alone would have."""
    if settings.design == "fixed" or len(pairs) < 2:
        return []
    most = max(len(of.scores) for of in scores.variants.values())
    finite = np.isfinite(half_width(np.arange(MOST_SEEDS), settings.alpha / len(pairs), settings.design))
    needed = int(finite.argmax())
    alone = np.isfinite(half_width(most, settings.alpha, settings.design))
    return [TOO_FEW.format(len(pairs), counted(most, "seed"), needed)] if most < needed and alone else []
