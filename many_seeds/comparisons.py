"""From scores and pairs of variants to results: the one engine behind studies, commits, files and MLflow."""

import difflib
import functools
import itertools
import math
import numbers
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
import pandas as pd

from many_seeds import intervals
from many_seeds.errors import UserError
from many_seeds.intervals import Design, Interval
from many_seeds.sources import tables
from many_seeds.sources.scores import Runs, Scores, listed, of_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PAIRS = 10_000
ROUNDING = 8 * float(np.finfo(np.float64).eps)  # of the largest score: how far arithmetic alone moves equal differences
UNCHANGED = "unchanged"

Pair = tuple[str, str]
ResultVerdict = Literal["undecided", "equivalent", "better", "worse", "unchanged"]


@dataclass(frozen=True)
class Settings:
    """How pairs are compared. Margin and step are in the unit of the scores.

    Attributes:
        margin: a difference within it is negligible; 0 if every difference counts.
        step: the smallest difference that two scores can have, a lower bound of the standard deviation; 0 for none.
        confidence: that all intervals hold simultaneously.
        design: "open" if seeds may be added after a look, "fixed" if their number was fixed before the first.
        lower_is_better: whether a lower score is better, as for a loss.

    Raises:
        UserError: margin or step is not a number of 0 or more, confidence is not between 0 and 1, or the design is
            unknown.
    """

    margin: float = 0.0
    step: float = 0.0
    confidence: float = 0.95
    design: Design = "open"
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        for name in ("margin", "step"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
                raise UserError(
                    f"{name} should be a number of 0 or more, in the unit of the scores, received {value!r}"
                )
        if not isinstance(self.confidence, numbers.Real) or not 0 < self.alpha < 1:
            raise UserError(
                f"confidence should be a number between 0 and 1, such as 0.95, received {self.confidence!r}"
            )
        if self.design not in get_args(Design):
            raise UserError(f"design should be {' or '.join(get_args(Design))}, received {self.design!r}")

    @property
    def alpha(self) -> float:
        """The probability that any of the intervals misses."""
        return round(1 - self.confidence, 12)  # 0.05, not 0.050000000000000044


@dataclass(frozen=True)
class Result:
    """The comparison of b with a. Difference and interval are of b − a, in the unit of the scores.

    Attributes:
        a: the first variant.
        b: the second.
        n: seeds that both have; where runs are not paired, the smaller number of runs.
        difference: the mean of b − a.
        low: of the interval; -inf where the data rule nothing out.
        high: of the interval; inf likewise.
        verdict: b against a; "unchanged" where both score the same in every seed, of at least two.
        seeds_projected: if undecided, the seeds at which there is a verdict if mean and spread stay; None if unknown.
        seeds_worst_case: the same whatever the mean is.
        n_a: runs of a that count.
        n_b: runs of b that count.
        paired: whether the differences are seed by seed.
        tied: every seed shows the same difference, not 0, and there is no step: the data do not say how sure it is.
    """

    a: str
    b: str
    n: int
    difference: float
    low: float
    high: float
    verdict: ResultVerdict
    seeds_projected: int | None
    seeds_worst_case: int | None
    n_a: int
    n_b: int
    paired: bool
    tied: bool


COLUMNS = ["a", "b", "n", "difference", "low", "high", "verdict", "seeds_projected", "seeds_worst_case"]


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """The results of comparisons whose intervals hold simultaneously, in the order of the pairs.

    `results["a", "b"]` is the result of a pair, `results[0]` the first; `print(results)` shows the table, its guarantee
    and the remarks.

    Attributes:
        metric: what the scores are called.
        settings: how they were compared.
        items: a result for each pair.
        remarks: what was left out or assumed, a sentence each.
        unit: of the scores, as it is written behind a number; "" for none.
        scope: what the intervals generalise to.
        family: how many intervals hold simultaneously; more than `items` where these are a part of them.
    """

    metric: str
    settings: Settings
    items: tuple[Result, ...]
    remarks: tuple[str, ...] = ()
    unit: str = ""
    scope: str = "other seeds"
    family: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or len(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.items)

    @overload
    def __getitem__(self, key: int) -> Result: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Result, ...]: ...

    @overload
    def __getitem__(self, key: Pair) -> Result: ...

    def __getitem__(self, key: int | slice | Pair) -> Result | tuple[Result, ...]:
        if not isinstance(key, tuple | str):
            return self.items[key]
        if isinstance(key, str) or key not in self._by_pair:
            raise KeyError(f"no comparison of {key}; there are: {listed(list(self._by_pair))}")
        return self._by_pair[key]

    @functools.cached_property
    def _by_pair(self) -> dict[Pair, Result]:
        return {(result.a, result.b): result for result in self.items}

    def __str__(self) -> str:
        from many_seeds import text  # which knows results

        return text.as_text(self)

    def _repr_markdown_(self) -> str:  # of notebooks
        return self.to_markdown()

    def of(self, pairs: Sequence[Pair]) -> "Results":
        """The results of these pairs alone, whose intervals are still those of the whole family.

        Raises:
            KeyError: a pair was not compared.
        """
        return replace(self, items=tuple(self[pair] for pair in pairs))

    def to_frame(self) -> pd.DataFrame:
        """A row for each result: a, b, n, difference, low, high, verdict, seeds_projected, seeds_worst_case."""
        table = pd.DataFrame([asdict(result) for result in self.items], columns=COLUMNS)
        return table.astype({"seeds_projected": "Int64", "seeds_worst_case": "Int64"})

    def to_dict(self) -> dict[str, Any]:
        """Metric, settings, results and remarks as values that JSON has; None for the end of an infinite interval."""
        results = [
            {name: None if value in (math.inf, -math.inf) else value for name, value in asdict(result).items()}
            for result in self.items
        ]
        return {
            "metric": self.metric,
            "settings": asdict(self.settings),
            "family": self.family,
            "results": results,
            "remarks": list(self.remarks),
        }

    def to_markdown(self) -> str:
        """The table with its guarantee and the remarks, for pull requests and notebooks."""
        from many_seeds import text

        return text.as_markdown(self)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the intervals, and write them to `path` (.png, .svg or .pdf) if there is one.

        Returns:
            The matplotlib figure.

        Raises:
            UserError: another format, too many results for a figure, or the file can't be written.
        """
        from many_seeds import plots  # matplotlib takes as long to import as all the rest

        figure = plots.forest(self)
        if path is not None:
            plots.write(Path(path), figure)
        return figure


def compare(
    scores: pd.DataFrame | Mapping[str, Any] | str | Path,
    pairs: Sequence[Pair] | None = None,
    *,
    baseline: str | None = None,
    margin: float = 0.0,
    step: float = 0.0,
    confidence: float = 0.95,
    design: Design = "open",
    lower_is_better: bool = False,
) -> Results:
    """Compare variants by their scores: is b better than a, and would it still be with other seeds?

    Each pair gets an interval for the mean of b − a; the verdict is read off it. All intervals hold simultaneously
    (Bonferroni). See `many_seeds.interval` for the method.

    Args:
        scores: a data frame or a CSV or JSON-lines file with the columns variant, seed and one score; or a mapping from
            variant to a sequence of scores, one for each seed, paired by position. Variants are named by text: 64 is
            "64".
        pairs: (a, b); by default every variant against `baseline`, or every pair in the order of the variants.
        baseline: the variant with which every other is compared.
        margin: a difference within ±margin is negligible, in the unit of the scores.
        step: the smallest difference that two scores can have, such as 1 / test images for an accuracy.
        confidence: that all intervals hold simultaneously.
        design: "open": seeds may be added after a look; "fixed": their number was fixed before anyone saw a score.
        lower_is_better: whether a lower score is better, as for a loss.

    Returns:
        A result for each pair.

    Raises:
        UserError: the scores can't be read, a score is not finite, a variant is unknown, variants have no common seed,
            or a setting is out of range.

    Example:
        >>> import many_seeds as ms
        >>> results = ms.compare({"base": [1, 2, 1, 2, 1, 2], "wide": [5, 6, 5, 6, 5, 7]}, margin=0.5)
        >>> results["base", "wide"].verdict
        'better'
    """
    settings = Settings(margin, step, confidence, design, lower_is_better)
    found = read(scores)
    return compare_scores(found, _checked(found, pairs, baseline), settings)


def read(scores: pd.DataFrame | Mapping[str, Any] | str | Path) -> Scores:
    """Scores from a data frame, a file, or a mapping from variant to an array [seeds].

    Raises:
        UserError: see `compare`.
    """
    if isinstance(scores, Mapping):
        if twice := [name for name, count in Counter(map(str, scores)).items() if count > 1]:
            raise UserError(f"two variants are called {twice[0]}, as text: expected each name once")
        return of_arrays({str(name): _floats(str(name), values) for name, values in scores.items()})
    by, seed = [tables.BY], tables.SEED
    if isinstance(scores, pd.DataFrame):
        table = scores.set_axis(pd.Index(range(1, len(scores) + 1), name="row")).rename(columns=str)
    elif isinstance(scores, str | Path):
        table = tables.read_table(str(scores), [*by, seed])
    else:
        raise UserError(f"scores should be a data frame, a mapping or a path, received {type(scores).__name__}")
    columns = list(table.columns)
    if not {*by, seed} <= {*columns}:
        raise UserError(
            f"expected the columns {by[0]}, {seed} and one of scores, received {listed(columns)}; where each column is "
            "a variant, give a mapping from its name to its scores"
        )
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise UserError(f"the data frame has the column {twice[0]!r} twice: expected each name once")
    left = tables.score_columns(table, [*tables.UNNAMED, *by, seed])
    if len(left) != 1:
        raise UserError(
            f"expected one column of scores beside {by[0]} and {seed}, found {listed(left)}: give a data frame with "
            "these three columns"
        )
    return tables.long_scores(table, left[0], seed, by, [])


def _floats(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"the scores of {name} should be a sequence of finite numbers, one for each seed, received "
            f"{reprlib.repr(values)}"
        ) from error


def _checked(scores: Scores, pairs: Sequence[Pair] | None, baseline: str | None) -> list[Pair]:
    names = list(scores.variants)
    if len(names) < 2:
        raise UserError(f"expected at least two variants, found {'only ' if names else ''}{listed(names)}")
    if pairs is None:
        return choose_pairs(scores, [], None if baseline is None else str(baseline))
    if baseline is not None:
        raise UserError(f"expected pairs or a baseline, received both: {pairs!r} and {baseline!r}")
    found = list[Pair]()
    for pair in pairs:
        texts = [*map(str, pair)] if isinstance(pair, Sequence) and not isinstance(pair, str) else []
        if len(texts) != 2 or texts[0] == texts[1] or not all(text in scores.variants for text in texts):
            raise UserError(f"pairs should be (a, b) of two variants of {listed(names)}, received {pair!r}")
        found.append((texts[0], texts[1]))
    if not found:
        raise UserError("expected at least one pair (a, b), received none")
    _refuse_twice(found, "pairs")
    return found


def _refuse_twice(pairs: Sequence[Pair], what: str) -> None:
    seen = set[frozenset[str]]()
    for pair in pairs:
        if frozenset(pair) in seen:
            raise UserError(f"{what} names {pair[0]}:{pair[1]} twice, in either order: name it once")
        seen.add(frozenset(pair))


def choose_pairs(scores: Scores, named: Sequence[str], baseline: str | None) -> list[Pair]:
    """The pairs that are named, else every variant against the baseline, else every pair.

    Args:
        scores: of at least two variants.
        named: texts A:B, several in one with commas between.
        baseline: a variant.

    Raises:
        UserError: a name is unknown, a pair is named twice, or there are too many pairs.
    """
    names = list(scores.variants)
    if len(names) < 2:
        raise UserError(
            f"expected at least two variants, found only {listed(names)}: name with --by the columns or parameters "
            "that distinguish variants, or have, with --wide, a column for each"
        )
    if named:
        known = {*names}
        texts = [part for text in named for part in ([text] if _pair(text, known) else _parts(text))]
        found = [_pair(text, known) or _unknown(text, names) for text in texts]
        _refuse_twice(found, "--pairs")
        return found
    if baseline is not None:
        if baseline not in names:
            raise UserError(f"the baseline should be a variant, received {baseline!r}. {_suggestion(baseline, names)}")
        return [(baseline, name) for name in names if name != baseline]
    if (count := math.comb(len(names), 2)) > MAX_PAIRS:
        raise UserError(
            f"{len(names):,} variants make {count:,} pairs, too many for a verdict on any: name a --baseline, or the "
            "--pairs that matter"
        )
    return list(itertools.combinations(names, 2))


def _pair(text: str, known: AbstractSet[str]) -> Pair | None:
    """The variants of "a:b", whose names may contain colons and commas; None if they are not two of `known`."""
    for place in (place for place, character in enumerate(text) if character == ":"):
        a, b = text[:place].strip(), text[place + 1 :].strip()
        if a in known and b in known and a != b:
            return a, b
    return None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def _unknown(text: str, names: Sequence[str]) -> Pair:
    if text in {f"{name}:{name}" for name in names}:
        raise UserError(f"--pairs should be A:B with two variants, received one, against itself: {text!r}")
    wrong = [name for name in map(str.strip, text.split(":")) if name not in names] if ":" in text else []
    known = _suggestion(wrong[0], names) if wrong else f"There are: {listed(names)}"
    alone = " A pair with a comma in a name needs its own --pairs." if any("," in name for name in names) else ""
    raise UserError(f"--pairs should be A:B with two variants, received {text!r}.{alone} {known}")


def _suggestion(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {listed(names)}"


def compare_scores(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> Results:
    """A result for each pair, all at the level α / number of pairs, so that their intervals hold simultaneously.

    Raises:
        UserError: runs that have no seed in common are compared in the open design.
    """
    level = settings.alpha / max(len(pairs), 1)  # also for tied pairs: which are tied depends on the scores
    if settings.design == "open":
        _refuse_unpaired(scores, pairs)
    items = tuple(
        compare_runs(a, b, *shared(scores.variants[a], scores.variants[b]), level=level, settings=settings)
        for a, b in pairs
    )
    items = tuple(_unchanged(result) if _is_unchanged(result, scores) else result for result in items)
    results = Results(scores.metric, settings, items)
    return replace(results, remarks=(*scores.remarks, *_remarks(scores, results)))


def compare_runs(a: str, b: str, of_a: Runs, of_b: Runs, *, level: float, settings: Settings) -> Result:
    """The result of one pair.

    Args:
        a: the name of the first variant.
        b: that of the second.
        of_a: its runs; the same seeds as b's in the same order, or else not paired.
        of_b: those of b.
        level: probability that the interval misses.
        settings: margin, step, design and direction.
    """
    paired, n_a, n_b = _paired(of_a, of_b), len(of_a.scores), len(of_b.scores)
    differences = of_b.scores - of_a.scores if paired else np.array([of_b.scores.mean() - of_a.scores.mean()])
    mean = float(np.mean(differences))
    constant = _constant(of_a, of_b, paired)
    if constant and not settings.step:
        found = Interval(-math.inf, math.inf)
    elif paired:
        found = intervals.interval(differences, level=level, step=settings.step, design=settings.design)
    else:
        found = intervals.welch_interval(of_b.scores, of_a.scores, level=level, step=settings.step)
    improvement = Interval(-found.high, -found.low) if settings.lower_is_better else found
    verdict = intervals.verdict(improvement, settings.margin)
    tied = constant and not settings.step and abs(mean) > _rounding(of_a, of_b)
    projected = worst = None
    if verdict == "undecided" and paired and n_a > 1 and not tied:
        sd = intervals.standard_deviation(differences, settings.step)
        projected = intervals.projected_seeds(n_a, mean, sd, level=level, margin=settings.margin)
        worst = intervals.worst_case_seeds(n_a, sd, level=level, margin=settings.margin)
    n = min(n_a, n_b)
    return Result(a, b, n, mean, found.low, found.high, verdict, projected, worst, n_a, n_b, paired, tied)


def shared(a: Runs, b: Runs) -> tuple[Runs, Runs]:
    """The runs of the seeds that both have, in the same order; all runs where they have none in common."""
    if np.array_equal(a.seeds, b.seeds):
        return a, b
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    return (Runs(common, a.scores[in_a]), Runs(common, b.scores[in_b])) if len(common) else (a, b)


def _paired(a: Runs, b: Runs) -> bool:
    return len(a.seeds) > 0 and np.array_equal(a.seeds, b.seeds)


def _rounding(a: Runs, b: Runs) -> float:
    return ROUNDING * float(max(np.abs(a.scores).max(), np.abs(b.scores).max()))


def _constant(a: Runs, b: Runs, paired: bool) -> bool:
    """Whether the data, of two seeds at least, have no spread."""
    values = [b.scores - a.scores] if paired else [a.scores, b.scores]
    return min(len(a.scores), len(b.scores)) > 1 and all(np.ptp(one) <= _rounding(a, b) for one in values)


def _unchanged(result: Result) -> Result:
    return replace(result, verdict="unchanged", difference=0.0, seeds_projected=None, seeds_worst_case=None)


def _is_unchanged(result: Result, scores: Scores) -> bool:
    """Whether both variants score the same in every seed: such scores come from the same models."""
    a, b = shared(scores.variants[result.a], scores.variants[result.b])
    return result.paired and result.n > 1 and bool(np.all(np.abs(b.scores - a.scores) <= _rounding(a, b)))


def _refuse_unpaired(scores: Scores, pairs: Sequence[Pair]) -> None:
    apart = [(a, b) for a, b in pairs if not _paired(*shared(scores.variants[a], scores.variants[b]))]
    if not apart:
        return
    described = listed([f"{a}:{b}" for a, b in apart])
    if scores.paired:
        seeds = [[scores.seeds[seed] for seed in scores.variants[name].seeds] for name in apart[0]]
        described += f" ({'; '.join(f'{name}: {listed(of)}' for name, of in zip(apart[0], seeds, strict=True))})"
    raise UserError(
        f"these have no seed in common: {described}. The open design, in which runs may be added at any time, compares "
        "seed by seed: run both with the same seeds; or, if the number of runs was fixed before any score was seen, "
        "choose the fixed design (--design fixed)"
    )


def _remarks(scores: Scores, results: Results) -> Iterator[str]:
    """What a reader of the results has to know about the scores, a sentence each."""
    if alone := [name for name, runs in scores.variants.items() if len(runs.scores) == 1]:
        yield f"only one run, which gives no interval: {listed(alone)}"
    if same := [f"{one.a}:{one.b} ({one.n} seeds)" for one in results if one.verdict == UNCHANGED]:
        yield f"unchanged, with the same score in every seed: {listed(same)}"
    if tied := [f"{one.a}:{one.b}" for one in results if one.tied]:
        yield (
            f"every seed shows the same difference, so the data do not say how sure it is: {listed(tied)}. Set "
            "a step (--step), the smallest difference that two scores can have (1 / the number of test images, for an "
            "accuracy), or leave out what does not depend on its seed"
        )
    if apart := [f"{one.a}:{one.b}" for one in results if not one.paired]:
        yield f"not paired by seed, compared by Welch's interval: {listed(apart)}"
    unused = []
    for one in results:
        counts = [len(scores.variants[name].scores) for name in (one.a, one.b)]
        if one.paired and max(counts) > one.n:
            unused.append(f"{one.a}:{one.b} ({counts[0]} and {counts[1]} runs, {one.n} shared)")
    if unused:
        yield f"compared on the seeds that both have: {listed(unused)}"
