"""The function `many_seeds.compare`: scores are read, pairs chosen, variants compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from many_seeds import checks
from many_seeds.comparisons import compare_scores
from many_seeds.errors import UserError
from many_seeds.pairs import check_pairs, check_two_variants, default_pairs
from many_seeds.results import Pair, Results, Settings
from many_seeds.sources.columns import lower_is_better as direction
from many_seeds.sources.items import Items
from many_seeds.sources.objects import read_scores
from many_seeds.sources.reading import At, Reading, paired_in_order
from many_seeds.sources.scores import Scores
from many_seeds.statistics.intervals import Design


def compare(
    scores: pd.DataFrame | Mapping[str, Any] | str | Path,
    pairs: Sequence[Pair] | None = None,
    *,
    baseline: str | None = None,
    margin: float = 0.0,
    resolution: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool | None = None,
    metric: str | None = None,
    seed: str | None = None,
    by: Sequence[str] = (),
    where: Sequence[str] = (),
    wide: bool = False,
    unpaired: bool = False,
    at: At | None = None,
    over: str | None = None,
) -> Results:
    """Compare variants by their scores over seeds: is b better than a, and would it be with other seeds?

    Each pair gets an interval for the mean of b − a, from which its verdict is read: equivalent if the interval lies
    within ±margin, else better or worse if it excludes 0, else undecided. All intervals hold simultaneously
    (Bonferroni). `many_seeds.interval` has the method and its sources.

    Args:
        scores: a data frame, or a CSV or JSON file, with the columns variant, seed and one score; the files of runs, by
            a pattern such as "runs/{variant}/{seed}/metrics.csv"; or a mapping from variant to a sequence of scores
            [seeds], paired by position. Names of variants are text: 64 is "64".
        pairs: (a, b) of variants; None for every variant against `baseline`, and without a baseline for every pair.
        baseline: a variant with which every other is compared.
        margin: equivalence margin, in the unit of the scores: a difference within ±margin is negligible.
        resolution: the smallest nonzero difference of two scores, in their unit, such as 1 / test images for an
            accuracy. The standard deviation of the differences counts as at least this.
        confidence: the probability with which all intervals hold simultaneously.
        design: "open" if seeds may be added after a look: the intervals are anytime-valid, at any number of seeds,
            whenever you look. "fixed" if the number of seeds was fixed before any score was seen: Student's t.
        lower_is_better: whether a lower score is better, as for a loss; None for no, unless the metric is called a
            loss, an error or a time: then it has to be stated.
        metric: the column of the scores; None for the only one.
        seed: the column of the seeds; None for "seed".
        by: the columns that distinguish variants; empty for "variant".
        where: conditions "COLUMN=VALUE" that a row must meet.
        wide: whether each column, except that of the seeds, is a variant.
        unpaired: whether runs have no common seeds. In the open design the first run of a is then paired with the first
            of b, and so on, which is valid if their order was not chosen by score.
        at: "last" or "best", the score that counts if a run has one for each step.
        over: a column, such as that of folds, over which the scores of a run are averaged.

    Returns:
        The results, one for each pair, in their order.

    Raises:
        UserError: the scores can't be read, a score is not finite, a variant is unknown, a pair has no common seed in
            the open design, or a setting is out of range.

    Example:
        >>> import many_seeds as ms
        >>> results = ms.compare({"base": [1, 2, 1, 2, 1, 2], "wide": [5, 6, 5, 6, 5, 7]}, margin=0.5)
        >>> results["base", "wide"].verdict
        'better'
    """
    reading = Reading(
        metric=metric,
        seed=seed,
        by=tuple(by),
        where=tuple(where),
        wide=wide,
        unpaired=unpaired,
        at=at,
        over=over,
        lower_is_better=lower_is_better,
    )
    settings = Settings(margin=margin, resolution=resolution, confidence=confidence, design=design)
    return compare_read(read_scores(scores, reading), reading, settings, lambda names: _pairs(names, pairs, baseline))


def compare_read(
    scores: Scores,
    reading: Reading,
    settings: Settings,
    choose: Callable[[list[str]], list[Pair]],
    items: Items | None = None,
) -> Results:
    """Compare scores that were read, with remarks on what makes a verdict doubtful.

    Args:
        scores: the scores.
        reading: how they were read.
        settings: how they are compared; `lower_is_better` is that of the reading.
        choose: the pairs to compare, from the names of the variants.
        items: the scores of single test items; None if they are not known.

    Raises:
        UserError: see `compare`.
    """
    settings = replace(settings, lower_is_better=direction(scores.metric, reading.lower_is_better))
    if reading.unpaired and settings.design == "open":
        scores = paired_in_order(scores)
    pairs = choose(list(scores.variants))
    results = compare_scores(scores, pairs, settings, items)
    return replace(results, remarks=(*results.remarks, *checks.remarks(scores, pairs, settings)))


def _pairs(names: Sequence[str], pairs: Sequence[Pair] | None, baseline: str | None) -> list[Pair]:
    check_two_variants(names)
    if pairs is None:
        return default_pairs(names, None if baseline is None else str(baseline))
    if baseline is not None:
        raise UserError(f"expected pairs or a baseline, received both: {pairs!r} and {baseline!r}")
    return check_pairs(pairs, names)
