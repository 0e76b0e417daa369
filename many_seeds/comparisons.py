"""From scores and pairs of variants to results: the one engine behind studies, commits, files and MLflow."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from many_seeds import intervals
from many_seeds.errors import UserError
from many_seeds.intervals import Interval
from many_seeds.messages import listed
from many_seeds.results import UNCHANGED, Pair, Result, Results, Settings
from many_seeds.sources.scores import Scores, VariantScores

# Differences that are equal but for floating-point rounding: relative to the largest score.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

TIED = (
    "every seed has the same difference, so the data have no information on its uncertainty: {}. Set a resolution "
    "(--resolution), the smallest nonzero difference of two scores (1 / test images for an accuracy), or leave out "
    "variants that do not depend on the seed"
)


def compare_scores(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> Results:
    """Compare pairs of variants, each at the level α / number of pairs (Bonferroni).

    Args:
        scores: the scores of all variants.
        pairs: (a, b) of variants.
        settings: how they are compared.

    Returns:
        One result for each pair; their intervals hold simultaneously.

    Raises:
        UserError: the design is open and a pair has no common seed.
    """
    level = settings.alpha / max(len(pairs), 1)  # tied pairs count: which are tied depends on the scores
    if settings.design == "open":
        _check_paired(scores, pairs)
    items = tuple(_compare_pair(scores, pair, level, settings) for pair in pairs)
    results = Results(scores.metric, settings, items)
    return replace(results, remarks=(*scores.remarks, *_remarks(scores, results)))


def compare_runs(
    a: str, b: str, scores_a: VariantScores, scores_b: VariantScores, *, level: float, settings: Settings
) -> Result:
    """Compare one pair of variants.

    Args:
        a: name of the first variant.
        b: name of the second variant.
        scores_a: scores of a; paired if they have the same seeds as those of b, in the same order.
        scores_b: scores of b.
        level: the probability that the interval misses.
        settings: margin, resolution, design and direction.

    Returns:
        The result; its verdict is never "unchanged".
    """
    paired = _paired(scores_a, scores_b)
    differences = _differences(scores_a, scores_b)
    mean = float(np.mean(differences))
    unresolved = not settings.resolution and _constant(scores_a, scores_b)
    tied = unresolved and abs(mean) > _rounding(scores_a, scores_b)
    interval = Interval(-math.inf, math.inf) if unresolved else _interval(scores_a, scores_b, level, settings)
    improvement = Interval(-interval.high, -interval.low) if settings.lower_is_better else interval
    verdict = intervals.verdict(improvement, settings.margin)
    projected = worst = None
    if verdict == "undecided" and paired and not tied:
        projected, worst = _seeds_needed(differences, mean, level, settings)
    n_a, n_b = len(scores_a.scores), len(scores_b.scores)
    return Result(
        a,
        b,
        n=min(n_a, n_b),
        difference=mean,
        low=interval.low,
        high=interval.high,
        verdict=verdict,
        seeds_projected=projected,
        seeds_worst_case=worst,
        n_a=n_a,
        n_b=n_b,
        paired=paired,
        tied=tied,
    )


def _compare_pair(scores: Scores, pair: Pair, level: float, settings: Settings) -> Result:
    a, b = _on_common_seeds(scores, pair)
    result = compare_runs(*pair, a, b, level=level, settings=settings)
    equal = result.paired and result.n > 1 and bool(np.all(np.abs(b.scores - a.scores) <= _rounding(a, b)))
    if equal:  # such scores come from the same models, so further seeds would be equal too
        return replace(result, verdict="unchanged", difference=0.0, seeds_projected=None, seeds_worst_case=None)
    return result


def _on_common_seeds(scores: Scores, pair: Pair) -> tuple[VariantScores, VariantScores]:
    """The scores of the seeds that both variants have, in the same order; all scores if they have none in common."""
    a, b = scores.variants[pair[0]], scores.variants[pair[1]]
    if np.array_equal(a.seeds, b.seeds):
        return a, b
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    if not len(common):
        return a, b
    return VariantScores(common, a.scores[in_a]), VariantScores(common, b.scores[in_b])


def _paired(a: VariantScores, b: VariantScores) -> bool:
    return len(a.seeds) > 0 and np.array_equal(a.seeds, b.seeds)


def _differences(a: VariantScores, b: VariantScores) -> np.ndarray:
    """Differences b − a, float64 [seeds]; float64 [1], of the means, if the runs are not paired."""
    return b.scores - a.scores if _paired(a, b) else np.array([b.scores.mean() - a.scores.mean()])


def _interval(a: VariantScores, b: VariantScores, level: float, settings: Settings) -> Interval:
    """The interval for the mean of b − a."""
    resolution = settings.resolution
    if _paired(a, b):
        return intervals.interval(b.scores - a.scores, level=level, resolution=resolution, design=settings.design)
    return intervals.welch_interval(b.scores, a.scores, level=level, resolution=resolution)


def _seeds_needed(
    differences: np.ndarray, mean: float, level: float, settings: Settings
) -> tuple[int | None, int | None]:
    """The numbers of seeds needed for a verdict: projected, and in the worst case."""
    n = len(differences)
    if n < 2:
        return None, None
    sd = intervals.standard_deviation(differences, settings.resolution)
    projected = intervals.projected_seeds(n, mean, sd, level=level, margin=settings.margin)
    return projected, intervals.worst_case_seeds(n, sd, level=level, margin=settings.margin)


def _rounding(a: VariantScores, b: VariantScores) -> float:
    return ROUNDING * float(max(np.abs(a.scores).max(), np.abs(b.scores).max()))


def _constant(a: VariantScores, b: VariantScores) -> bool:
    """Whether the data, of at least two runs each, have no spread."""
    samples = [b.scores - a.scores] if _paired(a, b) else [a.scores, b.scores]
    return min(len(a.scores), len(b.scores)) > 1 and all(np.ptp(sample) <= _rounding(a, b) for sample in samples)


def _check_paired(scores: Scores, pairs: Sequence[Pair]) -> None:
    unpaired = [pair for pair in pairs if not _paired(*_on_common_seeds(scores, pair))]
    if not unpaired:
        return
    seeds = f" ({'; '.join(_seeds(scores, name) for name in unpaired[0])})" if scores.paired else ""
    raise UserError(
        f"no seed in common: {listed([f'{a}:{b}' for a, b in unpaired])}{seeds}. The open design, in which runs may be "
        "added at any time, compares seed by seed: run both variants with the same seeds; or choose the fixed design "
        "(--design fixed) if the number of runs was fixed before any score was seen"
    )


def _seeds(scores: Scores, name: str) -> str:
    return f"{name}: {listed([scores.seeds[seed] for seed in scores.variants[name].seeds])}"


def _remarks(scores: Scores, results: Results) -> list[str]:
    """What a reader of the results needs to know about the scores, one sentence each."""
    remarks = {
        "only one run, so there is no interval: {}": _variants_of_one_run(scores),
        "unchanged, with the same score in every seed: {}": _unchanged_pairs(results),
        TIED: [f"{one.a}:{one.b}" for one in results if one.tied],
        "not paired by seed, compared by Welch's interval: {}": _unpaired(results),
        "compared on the common seeds: {}": _pairs_with_unused_runs(scores, results),
    }
    return [sentence.format(listed(names)) for sentence, names in remarks.items() if names]


def _unpaired(results: Results) -> list[str]:
    return [f"{one.a}:{one.b}" for one in results if not one.paired]


def _variants_of_one_run(scores: Scores) -> list[str]:
    return [name for name, variant in scores.variants.items() if len(variant.scores) == 1]


def _unchanged_pairs(results: Results) -> list[str]:
    return [f"{one.a}:{one.b} ({one.n} seeds)" for one in results if one.verdict == UNCHANGED]


def _pairs_with_unused_runs(scores: Scores, results: Results) -> list[str]:
    found = []
    for result in results:
        runs_a, runs_b = (len(scores.variants[name].scores) for name in (result.a, result.b))
        if result.paired and max(runs_a, runs_b) > result.n:
            found.append(f"{result.a}:{result.b} ({runs_a} and {runs_b} runs, {result.n} in common)")
    return found
