"""The comparisons of a study in params.yaml, and their results from the test accuracies of runs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from many_seeds.comparisons import compare_runs, remarks
from many_seeds.results import Pair, Result, Results, Settings
from many_seeds.sources.scores import VariantScores
from stages.study.params import Params, Statistics
from stages.study.results import EvaluatedRuns

SCORE, METRIC, UNIT = "accuracy", "test accuracy", "percentage points"


def named_pairs(study: Params) -> list[Pair]:
    """The pairs of variants to compare, each once: comparisons, steps of chains, and neighbouring approaches."""
    named = [(pair.a, pair.b) for pair in study.comparisons]
    named += [step for chain in study.chains.values() for step in pairwise(chain)]
    named += pairwise(study.approaches.values())
    pairs: dict[frozenset[str], Pair] = {}
    for pair in named:
        pairs.setdefault(frozenset(pair), pair)  # (b, a) is the same comparison
    return list(pairs.values())


def settings_of(statistics: Statistics, images: int, *, ordered: bool) -> Settings:
    """The settings of comparisons of test accuracies in percent.

    Args:
        statistics: the section of params.yaml.
        images: the number of test images.
        ordered: whether seeds are in the order in which they were added.
    """
    return Settings(
        margin=statistics.equivalence_margin,
        resolution=100 / images,
        confidence=statistics.confidence,
        design=statistics.design,
        ordered=ordered,
    )


def compare_accuracies(
    a: str,
    b: str,
    runs_a: EvaluatedRuns,
    runs_b: EvaluatedRuns,
    *,
    level: float,
    settings: Settings,
    from_seed: int = 0,
) -> Result:
    """Compare the test accuracies of two variants on the seeds that both have.

    Args:
        a: name of the first variant.
        b: name of the second variant.
        runs_a: all runs of a.
        runs_b: all runs of b, evaluated on the same test images.
        level: the probability that the interval misses.
        settings: the result of `settings_of`.
        from_seed: lower seeds are left out.

    Returns:
        The result, in percentage points. Where all common seeds are used, it has an interval for new images: later
        seeds do not renew test images whose results were the reason for a comparison.
    """
    scores = [VariantScores(np.array(runs.seeds), 100 * runs.accuracy) for runs in (runs_a, runs_b)]
    differences = None if from_seed else image_differences(runs_a, runs_b)
    return compare_runs(
        a, b, *scores, level=level, settings=settings, from_seed=from_seed, image_differences=differences
    )


def image_differences(a: EvaluatedRuns, b: EvaluatedRuns) -> np.ndarray:
    """The accuracy of b minus that of a on each test image, over their common seeds, float64 [images], in percent."""
    common = [seed for seed in a.seeds if seed in set(b.seeds)]
    means = [runs.select(common).correct.mean(axis=0) for runs in (a, b)]
    return 100 * (means[1] - means[0])


def results_by_seeds(runs: Mapping[str, EvaluatedRuns], pair: Pair, study: Params) -> list[Result]:
    """The results of a pair after the first 2, 3, … common seeds, without new images.

    Arguments are those of `compare_variants`.
    """
    images = len(next(iter(runs.values())).truth)
    settings = settings_of(study.statistics, images, ordered=True)
    level = settings.alpha / len(named_pairs(study))
    accuracies = [100 * runs[name].accuracy for name in pair]
    seeds = np.arange(min(map(len, accuracies)))
    found = []
    for n in range(2, len(seeds) + 1):
        scores = [VariantScores(seeds[:n], accuracy[:n]) for accuracy in accuracies]
        found.append(compare_runs(*pair, *scores, level=level, settings=settings))
    return found


def compare_variants(runs: Mapping[str, EvaluatedRuns], pairs: Sequence[Pair], study: Params) -> Results:
    """Compare pairs of a study, each on the seeds that both variants have.

    Args:
        runs: variant → its runs.
        pairs: pairs of variants. The level of each is its share of the level of all pairs of the study.
        study: the content of params.yaml.
    """
    images = len(next(iter(runs.values())).truth)
    settings, family = settings_of(study.statistics, images, ordered=True), len(named_pairs(study))
    items = [
        compare_accuracies(a, b, runs[a], runs[b], level=settings.alpha / family, settings=settings) for a, b in pairs
    ]
    return as_results(items, settings, images, family)


def as_results(items: Sequence[Result], settings: Settings, images: int, family: int) -> Results:
    """Results of comparisons of test accuracies.

    Args:
        items: a result for each pair.
        settings: of the comparisons.
        images: the number of test images.
        family: the number of intervals that hold simultaneously.
    """
    scope = f"other seeds on these {images:,} test images"
    return Results(METRIC, settings, tuple(items), tuple(remarks(items)), UNIT, scope, family)
