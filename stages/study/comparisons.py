"""The comparisons of a study in params.yaml, and their results from the test accuracies of runs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from many_seeds.comparisons import compare_runs, remarks
from many_seeds.errors import UserError
from many_seeds.ledger import Row
from many_seeds.messages import listed
from many_seeds.results import Pair, Result, Results, Settings
from many_seeds.sources.scores import VariantScores
from stages.study.identities import SCORE, comparison_identity
from stages.study.params import Params, Statistics
from stages.study.paths import COMPARISONS
from stages.study.results import EvaluatedRuns

METRIC, UNIT = "test accuracy", "percentage points"


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


def results_by_seeds(result: Result, runs: Mapping[str, EvaluatedRuns], settings: Settings) -> list[Result]:
    """The results of a comparison with its first 2, 3, … seeds, without new images.

    Args:
        result: the result with all seeds.
        runs: variant → its runs.
        settings: of the comparison.
    """
    pair = result.a, result.b
    accuracies = [100 * runs[name].accuracy for name in pair]
    seeds = np.arange(result.from_seed + result.n)
    found = []
    for n in range(result.from_seed + 2, len(seeds) + 1):
        scores = [VariantScores(seeds[:n], accuracy[:n]) for accuracy in accuracies]
        found.append(compare_runs(*pair, *scores, level=result.level, settings=settings, from_seed=result.from_seed))
    return found


def compare_variants(
    runs: Mapping[str, EvaluatedRuns], pairs: Sequence[Pair], study: Params, ledger: Sequence[Row]
) -> Results:
    """Compare pairs of a study, each on the seeds that both variants have, from its first seed in the ledger on.

    Args:
        runs: variant → its runs.
        pairs: pairs of `named_pairs`.
        study: the content of params.yaml.
        ledger: its rows, with the level and the first seed of each comparison.

    Raises:
        UserError: a comparison of the study has no row.
    """
    images = len(next(iter(runs.values())).truth)
    settings, rows = settings_of(study.statistics, images, ordered=True), find_rows(study, ledger)
    items = []
    for a, b in pairs:
        row = rows[a, b]
        result = compare_accuracies(a, b, runs[a], runs[b], level=row.level, settings=settings, from_seed=row.from_seed)
        items.append(result)
    return as_results(items, settings, images, sum(row.data == study.data.name for row in ledger))


def find_withdrawn(study: Params, rows: Iterable[Row]) -> list[tuple[Row, Pair]]:
    """The withdrawn comparisons of two variants that the study still has, by the names that they had, unedited."""
    here = [row for row in rows if row.withdrawn and row.data == study.data.name]
    known = [(row, (row.a, row.b)) for row in here if {row.a, row.b} <= study.variants.keys()]
    return [(row, pair) for row, pair in known if comparison_identity(*pair, study, row.score) == row.identity]


def find_rows(study: Params, rows: Iterable[Row], score: str = SCORE) -> dict[Pair, Row]:
    """The row of each comparison of a study.

    Args:
        study: the parameters of the study.
        rows: the ledger.
        score: the name of the score.

    Returns:
        Pair as in `named_pairs` → row. Variants with equal recipes share rows.

    Raises:
        UserError: a comparison has no row.
    """
    known = {row.identity: row for row in rows if row.data == study.data.name and not row.withdrawn}
    found = {(a, b): known.get(comparison_identity(a, b, study, score)) for a, b in named_pairs(study)}
    if missing := [f"{a} → {b}" for (a, b), row in found.items() if row is None]:
        raise UserError(
            f"{COMPARISONS} should have a row for each comparison of params.yaml; missing: {listed(missing)}. "
            "`dvc repro ledger` enters them"
        )
    return {pair: row for pair, row in found.items() if row is not None}


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
