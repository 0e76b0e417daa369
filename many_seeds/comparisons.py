"""From scores and pairs of variants to results: the one engine behind studies, commits, files and MLflow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.results import UNCHANGED, Pair, Result, Results, Settings
from many_seeds.sources.items import Items
from many_seeds.sources.scores import Scores, VariantScores
from many_seeds.statistics import intervals, new_images
from many_seeds.statistics.intervals import ROUNDING, Interval, Verdict
from many_seeds.statistics.outliers import outliers, sign_test

UNBOUNDED = Interval(-math.inf, math.inf)

TIED = (
    "every seed has the same difference, so the data have no information on its uncertainty: {}. Set a resolution "
    "(--resolution; in Python, resolution=…), the smallest nonzero difference of two scores (1 / test images for an "
    "accuracy), or leave out variants that do not depend on the seed"
)
OUTLIERS = (
    "outliers, runs far from the others of their variant, such as diverged ones: {}. A comparison with an outlier is "
    "never equivalent, and better or worse only if a sign test agrees"
)
LATER = "compared on later seeds only, since scores of both variants were known when the comparison was made: {}"
EMPTY = (
    "undecided, because the intervals at different numbers of seeds exclude each other: {}. The assumptions may not "
    "hold: check for runs that were left out, repeated or made with other code"
)
OUTSIDE = (
    "the mean is outside the interval, which holds at all numbers of seeds: {}. This is rare if the assumptions hold: "
    "check for runs that were left out, repeated or made with other code"
)


def compare_scores(scores: Scores, pairs: Sequence[Pair], settings: Settings, items: Items | None = None) -> Results:
    """Compare pairs of variants, each at the level α / number of pairs (Bonferroni).

    Args:
        scores: the scores of all variants.
        pairs: (a, b) of variants.
        settings: how they are compared.
        items: the scores of single test items, for a second interval; None if they are not known.

    Returns:
        One result for each pair; their intervals hold simultaneously.

    Raises:
        UserError: the design is open and a pair has no common seed.
    """
    level = settings.alpha / max(len(pairs), 1)  # tied pairs count: which are tied depends on the scores
    if settings.design == "open":
        _check_paired(scores, pairs)
    runs = {name: _all_runs(of, settings.resolution) for name, of in scores.variants.items()}
    found = tuple(_compare_pair((a, b), runs[a], runs[b], level, settings, items) for a, b in pairs)
    grouped = items is not None and items.groups is not None
    results = Results(scores.metric, settings, found, item="item", grouped=grouped)
    return replace(results, remarks=(*scores.remarks, *_remarks(scores, results)))


def compare_runs(
    a: str,
    b: str,
    scores_a: VariantScores,
    scores_b: VariantScores,
    *,
    level: float,
    settings: Settings,
    from_seed: int = 0,
    image_differences: np.ndarray | None = None,
    image_groups: np.ndarray | None = None,
) -> Result:
    """Compare one pair of variants: on the seeds that both have, or by Welch's interval if they have none in common.

    Args:
        a: name of the first variant.
        b: name of the second variant.
        scores_a: all scores of a.
        scores_b: all scores of b.
        level: the probability that the interval misses.
        settings: how they are compared.
        from_seed: lower seeds are left out: their scores may have been the reason for the comparison.
        image_differences: float [images], the score of b minus that of a on each test image, averaged over the common
            seeds, for a second interval; None for no such interval.
        image_groups: [images], the group of each image, such as its writer; None if images are independent.

    Returns:
        The result; its verdict is never "unchanged".
    """
    all_a, all_b = (_all_runs(scores, settings.resolution) for scores in (scores_a, scores_b))
    runs = _common_runs(all_a, all_b, from_seed)
    result = _compare((a, b), runs, level, settings)
    if image_differences is not None and result.n > 1:
        result = _with_new_images(result, runs, image_differences, image_groups, level, settings)
    return replace(result, from_seed=from_seed)


def remarks(results: Sequence[Result]) -> list[str]:
    """What a reader needs to know about some results, one sentence each."""
    later = [f"{one.a}:{one.b} (from seed {one.from_seed} on)" for one in results if one.from_seed]
    counts = [f"{one.a}:{one.b} ({one.outliers} of {one.n_a + one.n_b} runs)" for one in results if one.outliers]
    empty = [f"{one.a}:{one.b}" for one in results if one.low > one.high]
    outside = [
        f"{one.a}:{one.b}"
        for one in results
        if one.low <= one.high and (one.difference < one.low or one.difference > one.high)
    ]
    sentences = {OUTLIERS: counts, LATER: later, EMPTY: empty, OUTSIDE: outside}
    return [sentence.format(listed(names)) for sentence, names in sentences.items() if names]


def _compare(pair: Pair, runs: "_Runs", level: float, settings: Settings) -> Result:
    estimate = (_paired_estimate if runs.paired else _unpaired_estimate)(runs, level, settings)
    verdict = _verdict(estimate.interval, settings)
    if runs.outliers and not _confirmed(verdict, runs, level, settings):
        verdict = "undecided"
    projected, worst_case = None, None
    if verdict == "undecided" and not estimate.tied and not math.isnan(estimate.sd):
        n, sd, margin = len(runs.a), estimate.sd, settings.margin
        projected = intervals.projected_seeds(n, estimate.mean, sd, level=level, margin=margin)
        worst_case = intervals.worst_case_seeds(n, sd, level=level, margin=margin)
    return Result(
        *pair,
        n=min(len(runs.a), len(runs.b)),
        difference=estimate.mean,
        low=estimate.interval.low,
        high=estimate.interval.high,
        verdict=verdict,
        seeds_projected=projected,
        seeds_worst_case=worst_case,
        n_a=len(runs.a),
        n_b=len(runs.b),
        paired=runs.paired,
        tied=estimate.tied,
        level=level,
        outliers=runs.outliers,
    )


@dataclass(frozen=True)
class _Runs:
    """The runs of one comparison.

    Attributes:
        a: scores of a, float64 [seeds], or [runs of a] if not paired.
        b: scores of b, in the order of the same seeds if paired.
        paired: whether both have the same seeds.
        outliers: the number of outliers among these runs; they are found among all runs of each variant.
    """

    a: np.ndarray
    b: np.ndarray
    paired: bool
    outliers: int

    @property
    def rounding(self) -> float:
        """Differences up to this size may come from rounding."""
        return ROUNDING * max((float(np.abs(scores).max()) for scores in (self.a, self.b) if len(scores)), default=0.0)


@dataclass(frozen=True)
class _Estimate:
    """Estimates of the mean of b − a.

    Attributes:
        mean: NaN without a seed.
        sd: the standard deviation between seeds; NaN for fewer than two seeds, or if runs are not paired.
        interval: for the mean.
        tied: see `Result.tied`.
    """

    mean: float
    sd: float
    interval: Interval
    tied: bool = False


@dataclass(frozen=True)
class _AllRuns:
    """All runs of a variant: seeds and scores as in `VariantScores`, and which are outliers among them."""

    seeds: np.ndarray
    scores: np.ndarray
    outliers: np.ndarray


def _all_runs(variant: VariantScores, resolution: float) -> _AllRuns:
    return _AllRuns(variant.seeds, variant.scores, outliers(variant.scores, resolution))


def _common_runs(a: _AllRuns, b: _AllRuns, from_seed: int = 0) -> _Runs:
    if from_seed == 0 and len(a.seeds) and np.array_equal(a.seeds, b.seeds):
        return _Runs(a.scores, b.scores, True, int(a.outliers.sum() + b.outliers.sum()))
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    if not len(common):
        return _Runs(a.scores, b.scores, False, int(a.outliers.sum() + b.outliers.sum()))
    in_a, in_b = in_a[common >= from_seed], in_b[common >= from_seed]
    return _Runs(a.scores[in_a], b.scores[in_b], True, int(a.outliers[in_a].sum() + b.outliers[in_b].sum()))


def _paired_estimate(runs: _Runs, level: float, settings: Settings) -> _Estimate:
    differences, resolution = runs.b - runs.a, settings.resolution
    if len(differences) < 2:
        return _Estimate(float(differences.mean()) if len(differences) else math.nan, math.nan, UNBOUNDED)
    mean = float(differences.mean())
    sd = intervals.standard_deviation(differences, resolution)
    if not resolution and np.ptp(differences) <= runs.rounding:
        return _Estimate(mean, sd, UNBOUNDED, tied=abs(mean) > runs.rounding)
    if settings.ordered and settings.design == "open" and not runs.outliers:
        found = intervals.running_interval(differences, level=level, resolution=resolution, rounding=runs.rounding)
        return _Estimate(mean, sd, found)
    found = intervals.interval(differences, level=level, resolution=resolution, design=settings.design)
    return _Estimate(mean, sd, found)


def _unpaired_estimate(runs: _Runs, level: float, settings: Settings) -> _Estimate:
    mean = float(runs.b.mean() - runs.a.mean())
    several = min(len(runs.a), len(runs.b)) > 1
    if several and not settings.resolution and max(np.ptp(runs.a), np.ptp(runs.b)) <= runs.rounding:
        return _Estimate(mean, math.nan, UNBOUNDED, tied=abs(mean) > runs.rounding)
    found = intervals.welch_interval(runs.a, runs.b, level=level, resolution=settings.resolution)
    return _Estimate(mean, math.nan, found)


def _verdict(interval: Interval, settings: Settings) -> Verdict:
    if interval.low > interval.high:  # an empty intersection
        return "undecided"
    return intervals.verdict(intervals.mirrored(interval) if settings.lower_is_better else interval, settings.margin)


def _confirmed(verdict: Verdict, runs: _Runs, level: float, settings: Settings) -> bool:
    """Whether a sign test confirms a verdict in spite of outliers. An interval with outliers shows no equivalence."""
    if not runs.paired:
        return False
    sign = sign_test(runs.b - runs.a, level)
    return verdict == {0: "undecided", -1 if settings.lower_is_better else 1: "better"}.get(sign, "worse")


def _with_new_images(
    result: Result,
    runs: _Runs,
    differences: np.ndarray,
    groups: np.ndarray | None,
    level: float,
    settings: Settings,
) -> Result:
    """The result with the interval and the verdict for new test images; without them if there are too few images."""
    error = new_images.standard_error(differences, resolution=settings.resolution, groups=groups)
    if error is None:
        return result
    sd = intervals.standard_deviation(runs.b - runs.a, settings.resolution)
    found = new_images.interval(result.difference, result.n, sd, error, level, settings.design)
    verdict = _verdict(found, settings)
    if result.outliers and verdict != result.verdict:
        verdict = "undecided"
    images = None
    if verdict == "undecided":
        count = len(differences)
        images = new_images.images_needed(count, result.difference, error, level=level, margin=settings.margin)
    return replace(
        result,
        low_new_images=found.low,
        high_new_images=found.high,
        verdict_new_images=verdict,
        images_needed=images,
    )


def _compare_pair(
    pair: Pair, a: _AllRuns, b: _AllRuns, level: float, settings: Settings, items: Items | None
) -> Result:
    runs = _common_runs(a, b)
    result = _compare(pair, runs, level, settings)
    if runs.paired and result.n > 1 and np.all(np.abs(runs.b - runs.a) <= runs.rounding):
        # Such scores come from the same models, so further seeds would be equal too.
        return replace(result, verdict="unchanged", difference=0.0, seeds_projected=None, seeds_worst_case=None)
    if items and runs.paired and result.n > 1:
        return _with_new_images(result, runs, items.differences(pair), items.groups, level, settings)
    return result


def _check_paired(scores: Scores, pairs: Sequence[Pair]) -> None:
    seeds = {name: variant.seeds for name, variant in scores.variants.items()}
    unpaired = [(a, b) for a, b in pairs if not np.isin(seeds[a], seeds[b]).any()]
    if not unpaired:
        return
    listing = f" ({'; '.join(_seeds(scores, name) for name in unpaired[0])})" if scores.paired else ""
    raise UserError(
        f"no seed in common: {listed([f'{a}:{b}' for a, b in unpaired])}{listing}. The open design, where runs may be "
        "added at any time, compares seed by seed: run both variants with the same seeds; or pair runs in their order, "
        "if it was not chosen by score (--unpaired; in Python, unpaired=True); or choose the fixed design (--design "
        "fixed; design='fixed') if the number of runs was fixed before any score was seen"
    )


def _seeds(scores: Scores, name: str) -> str:
    return f"{name}: {listed([scores.seeds[seed] for seed in scores.variants[name].seeds])}"


def _remarks(scores: Scores, results: Results) -> list[str]:
    """What a reader of the results needs to know about the scores, one sentence each."""
    sentences = {
        "only one run, so there is no interval: {}": _variants_of_one_run(scores),
        "unchanged, with the same score in every seed: {}": _unchanged_pairs(results),
        TIED: [f"{one.a}:{one.b}" for one in results if one.tied],
        "not paired by seed, compared by Welch's interval: {}": _unpaired(results),
        "compared on the common seeds: {}": _pairs_with_unused_runs(scores, results),
    }
    found = [sentence.format(listed(names)) for sentence, names in sentences.items() if names]
    return found + remarks(results)


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
