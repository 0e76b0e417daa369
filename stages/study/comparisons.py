"""The comparisons of a study in params.yaml, and their results from the test accuracies of runs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from many_seeds.comparisons import compare_runs
from many_seeds.results import Pair, Result, Results, Settings
from many_seeds.sources.scores import VariantScores
from stages.study.params import Params, Statistics

METRIC, UNIT = "test accuracy", "percentage points"
COLUMNS = ["a", "b", "n", "difference", "low", "high", "verdict", "digits", "seeds_about", "seeds_at_most"]


def named_pairs(study: Params) -> list[Pair]:
    """The pairs of variants to compare, each once: comparisons, steps of chains, and neighbouring approaches."""
    named = [(pair.a, pair.b) for pair in study.comparisons]
    named += [step for chain in study.chains.values() for step in pairwise(chain)]
    named += pairwise(study.approaches.values())
    pairs: dict[frozenset[str], Pair] = {}
    for pair in named:
        pairs.setdefault(frozenset(pair), pair)  # (b, a) is the same comparison
    return list(pairs.values())


def settings_of(statistics: Statistics, images: int) -> Settings:
    """The settings of comparisons of test accuracies in percent.

    Args:
        statistics: the section of params.yaml.
        images: the number of test images.
    """
    return Settings(statistics.equivalence_margin, 100 / images, statistics.confidence, statistics.design)


def compare_accuracies(
    pairs: Iterable[tuple[str, str, np.ndarray, np.ndarray]], images: int, family: int, statistics: Statistics
) -> Results:
    """Compare the test accuracies of pairs of variants.

    Args:
        pairs: names of a and b, and their test accuracies, float [seeds], paired by position.
        images: the number of test images.
        family: the number of intervals that hold simultaneously.
        statistics: the section of params.yaml.

    Returns:
        A result for each pair: the difference b − a, in percentage points.

    Raises:
        ValueError: a pair has different numbers of seeds.
    """
    settings, items = settings_of(statistics, images), list[Result]()
    for a, b, *accuracies in pairs:
        if accuracies[0].shape != accuracies[1].shape:
            shapes = ", ".join(str(one.shape) for one in accuracies)
            raise ValueError(f"Expected the same seeds of {a} and {b}, received arrays of the shapes {shapes}.")
        scores = [VariantScores(np.arange(len(one)), 100 * one) for one in accuracies]
        items.append(compare_runs(a, b, *scores, level=settings.alpha / max(family, 1), settings=settings))
    scope = f"other seeds on these {images:,} test images"
    return Results(METRIC, settings, tuple(items), unit=UNIT, scope=scope, family=family)


def compare_variants(accuracy: Mapping[str, np.ndarray], pairs: Sequence[Pair], images: int, study: Params) -> Results:
    """Compare pairs of a study, each on the seeds that both variants have.

    Args:
        accuracy: variant → test accuracy, float [seeds], of the seeds 0, 1, 2, …
        pairs: pairs of variants. The level of each is its share of the level of all pairs of the study.
        images: the number of test images.
        study: the content of params.yaml.
    """
    rows = []
    for a, b in pairs:
        n = min(len(accuracy[a]), len(accuracy[b]))
        rows.append((a, b, accuracy[a][:n], accuracy[b][:n]))
    return compare_accuracies(rows, images, len(named_pairs(study)), study.statistics)


def as_table(results: Results, image_errors: Sequence[float | None]) -> pd.DataFrame:
    """The table of results in metrics/tables.

    Args:
        results: the results, one for each row.
        image_errors: 1.96 standard errors over the test images of each result, in percentage points; None if unknown.
    """
    table = results.to_frame().rename(columns={"seeds_projected": "seeds_about", "seeds_worst_case": "seeds_at_most"})
    return table.assign(digits=list(image_errors))[COLUMNS]
