"""Checks of scores before they are compared: correlated rows, and too few seeds for the number of pairs."""

import contextlib
from collections.abc import Sequence

import numpy as np

from many_seeds.output.messages import counted, listed
from many_seeds.results import Pair, Settings
from many_seeds.sources.scores import Scores
from many_seeds.statistics.intervals import half_width

LEAST_ROWS = 10
ERRORS = 3.5  # standard errors of the correlation of independent rows
MOST_SEEDS = 10_000
CORRELATED = (
    "consecutive differences are strongly correlated: {}. Steps or epochs of one run are not seeds, nor are rows that "
    "were sorted; if rows are not independent runs, the verdicts mean nothing"
)
EQUAL = "variants are called by the same number, but compared as different ones: {}. Write it in one way if it is one"
TOO_FEW = (
    "at m = {:,} pairs, {} can't decide anything: the intervals are infinite below {:,}. Compare with one variant "
    "(--baseline) or name the pairs of interest (--pairs)"
)


def remarks(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[str]:
    """What makes the verdicts on some pairs doubtful or impossible, one sentence each."""
    found = []
    order = _order(scores.seeds)
    correlated = [(pair, value) for pair in pairs if (value := _correlation(scores, pair, order)) is not None]
    if correlated:
        found.append(CORRELATED.format(listed([f"{a}:{b} ({value:.2f})" for (a, b), value in correlated])))
    return found + _equal_numbers(list(scores.variants)) + _too_few(scores, pairs, settings)


def _equal_numbers(names: Sequence[str]) -> list[str]:
    """A remark on variants whose names are one number in several forms, such as 0.1 and 1e-1."""
    numbers: dict[float, list[str]] = {}
    for name in names:
        with contextlib.suppress(ValueError):
            numbers.setdefault(float(name), []).append(name)
    return [EQUAL.format(listed(several)) for several in numbers.values() if len(several) > 1]


def _order(seeds: Sequence[str]) -> np.ndarray:
    """The rank of each seed: by its number, or as it comes in the input where a seed is no number."""
    try:
        return np.argsort(np.argsort([float(seed) for seed in seeds], kind="stable"))
    except ValueError:
        return np.arange(len(seeds))


def _correlation(scores: Scores, pair: Pair, order: np.ndarray) -> float | None:
    """The correlation of consecutive differences if it is far from that of independent ones; else None."""
    a, b = (scores.variants[name] for name in pair)
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    if len(common) < LEAST_ROWS:
        return None
    differences = (b.scores[in_b] - a.scores[in_a])[np.argsort(order[common])]
    centered = differences - differences.mean()
    square = float(centered @ centered)
    if square <= (1e-12 * float(np.abs(differences).max())) ** 2 * len(common):
        return None
    value = float(centered[1:] @ centered[:-1]) / square
    return value if value * np.sqrt(len(common)) > ERRORS else None


def _too_few(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[str]:
    """A remark if no pair has enough seeds for a finite interval, and one pair alone would have."""
    if settings.design == "fixed" or len(pairs) < 2:
        return []
    most = max(len(of.scores) for of in scores.variants.values())
    finite = np.isfinite(half_width(np.arange(MOST_SEEDS), settings.alpha / len(pairs), settings.design))
    needed = int(finite.argmax())
    alone = np.isfinite(half_width(most, settings.alpha, settings.design))
    return [TOO_FEW.format(len(pairs), counted(most, "seed"), needed)] if most < needed and alone else []
