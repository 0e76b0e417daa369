"""The functions `many_seeds.compare`, for scores that exist, and `many_seeds.decide`, which makes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import pandas as pd

from many_seeds import checks
from many_seeds.comparisons import compare_scores
from many_seeds.errors import UserError
from many_seeds.pairs import chosen_pairs
from many_seeds.races import RaceResult
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
    for name, value in (("by", by), ("where", where)):
        if isinstance(value, str):
            raise UserError(f"{name} should be a list, such as [{value!r}], received the text {value!r}")
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
    return compare_read(
        read_scores(scores, reading), reading, settings, lambda names: chosen_pairs(names, pairs, baseline)
    )


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


@overload
def decide(
    train: Callable[..., Any],
    variants: Mapping[str, Mapping[str, Any]],
    pairs: Sequence[Pair] | None = None,
    *,
    store: str | Path,
    baseline: str | None = None,
    race: Literal[False] = False,
    score: str = "score",
    margin: float = 0.0,
    resolution: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool | None = None,
    most: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    gpus: Sequence[int | str] = (),
    verbose: bool = True,
) -> Results: ...


@overload
def decide(
    train: Callable[..., Any],
    variants: Mapping[str, Mapping[str, Any]],
    pairs: Sequence[Pair] | None = None,
    *,
    store: str | Path,
    baseline: str | None = None,
    race: Literal[True],
    score: str = "score",
    margin: float = 0.0,
    resolution: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool | None = None,
    most: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    gpus: Sequence[int | str] = (),
    verbose: bool = True,
) -> RaceResult: ...


@overload
def decide(
    train: Callable[..., Any],
    variants: Mapping[str, Mapping[str, Any]],
    pairs: Sequence[Pair] | None = None,
    *,
    store: str | Path,
    baseline: str | None = None,
    race: bool,
    score: str = "score",
    margin: float = 0.0,
    resolution: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool | None = None,
    most: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    gpus: Sequence[int | str] = (),
    verbose: bool = True,
) -> Results | RaceResult: ...


def decide(
    train: Callable[..., Any],
    variants: Mapping[str, Mapping[str, Any]],
    pairs: Sequence[Pair] | None = None,
    *,
    store: str | Path,
    baseline: str | None = None,
    race: bool = False,
    score: str = "score",
    margin: float = 0.0,
    resolution: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool | None = None,
    most: int | None = None,
    hours: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    gpus: Sequence[int | str] = (),
    verbose: bool = True,
) -> Results | RaceResult:
    """Train variants with more and more seeds, where the comparison is undecided, until each has a verdict.

    The scores are appended to a CSV file as they arrive. Runs that it has are not made again, so the same call goes on
    after an interruption, and several processes may share a store.

    Args:
        train: called as `train(seed=seed, **fields)` in another process; returns a score, or a mapping from names to
            scores. Its code may change between calls: then name another store.
        variants: variant → the fields that `train` receives.
        pairs: (a, b) of variants; None for every variant against `baseline`, and without a baseline for every pair.
        store: path of the CSV file. Files beside it have the levels of the comparisons, and the variants.
        baseline: a variant with which every other is compared.
        race: find the best of all variants, in place of comparisons.
        score: the name of the score by which variants are compared.
        margin: as in `compare`.
        resolution: as in `compare`.
        confidence: the probability with which the intervals of all comparisons of the store hold simultaneously.
        design: "open": seeds are added until there is a verdict. "fixed": every variant gets `most` seeds, and there is
            no interval and no verdict before both variants of a pair have all of them.
        lower_is_better: as in `compare`.
        most: the maximum number of seeds of a variant; 256 if None, except in the fixed design, which needs it.
        hours: time budget; None for no limit. A batch of runs starts if it is expected to end in time, and then each of
            its runs: by the mean duration of its variant, else of the others. While no duration is known, runs start,
            and so do second attempts; a run under way is not ended.
        workers: the number of runs at a time, each in a process; None for one per GPU of `gpus`, and without GPUs one;
            on a Dask cluster for the number of threads that it has when the call starts.
        timeout: the time limit of a run in seconds; None for no limit.
        gpus: GPUs of this machine: each worker sees one, in turn, as CUDA_VISIBLE_DEVICES.
        verbose: whether to print progress to standard error.

    Returns:
        The results, one for each pair, or with `race` the state of the race; both print as a table. A run that fails
        twice is recorded as failed, and named by `remarks`; its comparisons use the seeds before it, and the next call
        makes it again.

    Raises:
        UserError: an argument is out of range, joblib or cloudpickle is missing, the system has no file locks, or the
            store or a file beside it is damaged, can't be written, or has runs of other variants with these names.

    Example:
        >>> import many_seeds as ms
        >>> def train(seed, lr):
        ...     return 90 + 10 * lr + ((seed * 37) % 10) / 50
        >>> variants = {"low": {"lr": 0.01}, "high": {"lr": 0.1}}
        >>> ms.decide(train, variants, [("low", "high")], margin=0.2, store="scores.csv")  # doctest: +SKIP
    """
    from many_seeds.running import setup  # needs a system with file locks
    from many_seeds.running.study import check_variants

    settings = Settings(
        margin=margin,
        resolution=resolution,
        confidence=confidence,
        design=design,
        lower_is_better=direction(score, lower_is_better),
        ordered=True,
    )
    limits = setup.Limits(most=most, hours=hours, workers=workers, timeout=timeout, gpus=gpus)
    checked = check_variants(variants)
    asked = setup.asked_pairs([*checked], pairs, baseline, race=race)
    study = setup.new_study(checked, None, asked, score, settings, Path(store), limits)
    return setup.decide_function(train, study, limits, verbose=verbose)
