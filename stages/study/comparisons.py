"""The comparisons of a study in params.yaml, and their results from the test scores of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from many_seeds.comparisons import compare_runs, remarks
from many_seeds.errors import UserError
from many_seeds.ledger import Row
from many_seeds.output.messages import listed
from many_seeds.results import Pair, Result, Results, Settings
from many_seeds.sources.scores import VariantScores
from stages.study.params import Params, Statistics
from stages.study.paths import COMPARISONS
from stages.study.provenance.identities import comparison_identity
from stages.study.records.results import EvaluatedRuns, diverged_sentence
from stages.study.scores import SCORES, Score


@dataclass(frozen=True)
class Named:
    """A comparison that a study names.

    Attributes:
        a: the first variant.
        b: the second variant.
        score: a name of `scores.SCORES`.
        margin: equivalence margin in the unit of the score.
    """

    a: str
    b: str
    score: str
    margin: float

    @property
    def pair(self) -> Pair:
        return self.a, self.b

    @property
    def identity(self) -> tuple[frozenset[str], str]:
        """What makes it one comparison: both variants, in either order, and the score."""
        return frozenset(self.pair), self.score


def named_pairs(study: Params) -> list[Pair]:
    """The pairs of variants to compare, each once, by whatever scores."""
    pairs: dict[frozenset[str], Pair] = {}
    for named in named_comparisons(study):
        pairs.setdefault(frozenset(named.pair), named.pair)
    return list(pairs.values())


def named_comparisons(study: Params) -> list[Named]:
    """The comparisons of a study, each once: comparisons, steps of chains, and neighbouring approaches.

    A pair that is named with two scores makes two comparisons.
    """
    steps = [default_comparison((a, b), study.statistics) for _, a, b in study.steps()]
    found: dict[tuple[frozenset[str], str], Named] = {}
    for named in [*listed_comparisons(study), *steps]:
        found.setdefault(named.identity, named)  # (b, a) is the same comparison
    return list(found.values())


def listed_comparisons(study: Params) -> list[Named]:
    """The entries of `comparisons` in params.yaml."""
    settings = study.statistics
    return [
        Named(entry.a, entry.b, entry.score or settings.score, entry.margin or settings.equivalence_margin)
        for entry in study.comparisons
    ]


def default_comparison(pair: Pair, statistics: Statistics) -> Named:
    """The comparison of a pair by the score and the margin of the study, as for chains and approaches."""
    return Named(*pair, statistics.score, statistics.equivalence_margin)


def settings_of(
    statistics: Statistics, score: Score, truth: np.ndarray, *, ordered: bool, margin: float | None = None
) -> Settings:
    """The settings of comparisons.

    Args:
        statistics: the section of params.yaml.
        score: the score of the comparisons.
        truth: labels [images] of the test images.
        ordered: whether seeds are in the order in which they were added.
        margin: equivalence margin in the unit of the score; None for that of `statistics`.
    """
    return Settings(
        margin=statistics.equivalence_margin if margin is None else margin,
        resolution=score.resolution(truth),
        confidence=statistics.confidence,
        design=statistics.design,
        lower_is_better=score.lower_is_better,
        ordered=ordered,
    )


def compare_evaluated(
    a: str,
    b: str,
    runs_a: EvaluatedRuns,
    runs_b: EvaluatedRuns,
    *,
    score: Score,
    level: float,
    settings: Settings,
    from_seed: int = 0,
) -> Result:
    """Compare the scores of two variants on the seeds that both have.

    Args:
        a: name of the first variant.
        b: name of the second variant.
        runs_a: all runs of a.
        runs_b: all runs of b, evaluated on the same test images.
        score: the score.
        level: the probability that the interval misses.
        settings: the result of `settings_of`.
        from_seed: lower seeds are left out.

    Returns:
        The result, in the unit of the score. Where all common seeds are used and the score is a mean over images, it
        has an interval for new images: later seeds do not renew test images whose results were the reason for a
        comparison. It has none either where only one side knows the groups of the images, or both know other ones.
    """
    scores = [VariantScores(np.array(runs.seeds), score.scale * score.values(runs)) for runs in (runs_a, runs_b)]
    renewed = not from_seed and same_groups(runs_a, runs_b)
    return compare_runs(
        a,
        b,
        *scores,
        level=level,
        settings=settings,
        from_seed=from_seed,
        image_differences=image_differences(runs_a, runs_b, score) if renewed else None,
        image_groups=runs_a.groups,
    )


def same_groups(a: EvaluatedRuns, b: EvaluatedRuns) -> bool:
    """Whether the test images of both have the same groups, or none."""
    if a.groups is None or b.groups is None:
        return a.groups is b.groups
    return np.array_equal(a.groups, b.groups)


def image_differences(a: EvaluatedRuns, b: EvaluatedRuns, score: Score) -> np.ndarray | None:
    """The score of b minus that of a on each test image, over their common seeds, in the unit of the score.

    Returns:
        float64 [images], of which the mean is the difference of the scores; None for a score that is no such mean.
    """
    if score.image_weights is None:
        return None
    common = [seed for seed in a.seeds if seed in set(b.seeds)]
    means = [runs.select(common).correct.mean(axis=0) for runs in (a, b)]
    return score.scale * score.image_weights(a.truth) * (means[1] - means[0])


def results_by_seeds(
    result: Result, runs: Mapping[str, EvaluatedRuns], score: Score, settings: Settings
) -> list[Result]:
    """The results of a comparison with its first 2, 3, … seeds, without new images.

    Args:
        result: the result with all seeds.
        runs: variant → its runs.
        score: the score of the comparison.
        settings: of the comparison.
    """
    pair = result.a, result.b
    values = [score.scale * score.values(runs[name]) for name in pair]
    seeds = np.arange(result.from_seed + result.n)
    found = []
    for n in range(result.from_seed + 2, len(seeds) + 1):
        scores = [VariantScores(seeds[:n], of_variant[:n]) for of_variant in values]
        found.append(compare_runs(*pair, *scores, level=result.level, settings=settings, from_seed=result.from_seed))
    return found


def compare_variants(
    runs: Mapping[str, EvaluatedRuns], pairs: Iterable[Pair], study: Params, ledger: Sequence[Row]
) -> Results:
    """Compare pairs of a study by its score, each on the seeds that both variants have, from its first seed on.

    Args:
        runs: variant → its runs.
        pairs: pairs that the study compares by its score, in the order of `named_pairs`.
        study: the content of params.yaml.
        ledger: its rows, with the level and the first seed of each comparison.

    Raises:
        UserError: a comparison of the study has no row.
    """
    return _compare(runs, [default_comparison(pair, study.statistics) for pair in pairs], study, ledger)


def compare_named(
    runs: Mapping[str, EvaluatedRuns], named: Iterable[Named], study: Params, ledger: Sequence[Row]
) -> list[Results]:
    """Compare variants as named, each on the seeds that both have, from its first seed in the ledger on.

    Args:
        runs: variant → its runs.
        named: comparisons of `named_comparisons`.
        study: the content of params.yaml.
        ledger: its rows, with the level and the first seed of each comparison.

    Returns:
        Results for each score and margin, since one table has one unit. All their intervals hold simultaneously.

    Raises:
        UserError: a comparison of the study has no row.
    """
    return [_compare(runs, group, study, ledger) for group in grouped(named)]


def grouped(named: Iterable[Named]) -> list[list[Named]]:
    """Comparisons in groups of one score and margin, in the order in which these are first named."""
    groups: dict[tuple[str, float], list[Named]] = {}
    for one in named:
        groups.setdefault((one.score, one.margin), []).append(one)
    return list(groups.values())


def _compare(
    runs: Mapping[str, EvaluatedRuns], named: Sequence[Named], study: Params, ledger: Sequence[Row]
) -> Results:
    """The results of comparisons of one score and margin; of the study's if there is no comparison."""
    first = named[0] if named else default_comparison(("", ""), study.statistics)
    score, some = SCORES[first.score], next(iter(runs.values()))
    truth = some.truth
    settings = settings_of(study.statistics, score, truth, ordered=True, margin=first.margin)
    rows, items = find_rows(study, ledger, first.score), []
    for one in named:
        of, row = [runs[name] for name in one.pair], rows[one.pair]
        result = compare_evaluated(
            *one.pair, *of, score=score, level=row.level, settings=settings, from_seed=row.from_seed
        )
        items.append(result)
    family = sum(row.data == study.data.name and row.kind == "comparison" for row in ledger)
    results = as_results(items, score, settings, len(truth), family, grouped=some.groups is not None)
    names = dict.fromkeys(name for one in named for name in one.pair)
    diverged = filter(None, (diverged_sentence(runs[name]) for name in names))
    return replace(results, remarks=(*diverged, *results.remarks))


def find_withdrawn(study: Params, rows: Iterable[Row]) -> list[tuple[Row, Pair]]:
    """The withdrawn comparisons of two variants that the study still has, by the names that they had, unedited.

    Those by a score that is no longer in `SCORES` are left out.
    """
    here = [row for row in rows if row.withdrawn and row.data == study.data.name and row.score in SCORES]
    known = [(row, (row.a, row.b)) for row in here if {row.a, row.b} <= study.variants.keys()]
    return [(row, pair) for row, pair in known if comparison_identity(*pair, study, row.score) == row.identity]


def find_rows(study: Params, rows: Iterable[Row], score: str | None = None) -> dict[Pair, Row]:
    """The row of each comparison of a study by one score.

    Args:
        study: the parameters of the study.
        rows: the ledger.
        score: the name of the score; None for the study's.

    Returns:
        Pair as in `named_comparisons` → row. Variants with equal recipes share rows.

    Raises:
        UserError: a comparison has no row.
    """
    score = score or study.statistics.score
    known = {row.identity: row for row in rows if row.data == study.data.name and not row.withdrawn}
    pairs = [named.pair for named in named_comparisons(study) if named.score == score]
    found = {(a, b): known.get(comparison_identity(a, b, study, score)) for a, b in pairs}
    if missing := [f"{a} → {b}" for (a, b), row in found.items() if row is None]:
        raise UserError(
            f"{COMPARISONS} should have a row for each comparison of params.yaml by {score}; missing: "
            f"{listed(missing)}. `dvc repro ledger` enters them"
        )
    return {pair: row for pair, row in found.items() if row is not None}


def as_results(
    items: Sequence[Result], score: Score, settings: Settings, images: int, family: int, *, grouped: bool
) -> Results:
    """Results of comparisons by one score.

    Args:
        items: a result for each pair.
        score: the score.
        settings: of the comparisons.
        images: the number of test images.
        family: the number of intervals that hold simultaneously.
        grouped: whether the test images are in groups.
    """
    scope = f"other seeds on these {images:,} test images"
    return Results(
        score.label, settings, tuple(items), tuple(remarks(items)), score.unit, scope, family, grouped=grouped
    )
