"""Settings of comparisons, and their results."""

import functools
import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.output.messages import listed
from many_seeds.statistics.intervals import Design, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNCHANGED: Literal["unchanged"] = "unchanged"
SWAPPED: dict[Any, Any] = {"better": "worse", "worse": "better"}
COLUMNS = [
    "a",
    "b",
    "score",
    "n",
    "difference",
    "low",
    "high",
    "verdict",
    "low_new_images",
    "high_new_images",
    "verdict_new_images",
    "seeds_projected",
    "seeds_worst_case",
    "images_needed",
    "outliers",
]

COUNTS = ["seeds_projected", "seeds_worst_case", "images_needed"]  # which may be missing

Pair = tuple[str, str]
ResultVerdict = Literal["undecided", "equivalent", "better", "worse", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How variants are compared. Margin and resolution are in the unit of the scores.

    Attributes:
        margin: equivalence margin: a difference within ±margin is negligible; 0 if no difference is.
        resolution: the smallest nonzero difference of two scores, a lower bound of the standard deviation; 0 for none.
        confidence: the probability with which all intervals hold simultaneously.
        design: "open" if seeds may be added after a look at the scores, "fixed" if their number was fixed before.
        lower_is_better: whether a lower score is better, as for a loss.
        ordered: whether seeds are in the order in which they were added, none left out. The interval is then the
            intersection of those at every smaller number of seeds.

    Raises:
        UserError: margin or resolution is not a number of 0 or more, confidence is not between 0 and 1, or the design
            is unknown.
    """

    margin: float = 0.0
    resolution: float = 0.0
    confidence: float = 0.95
    design: Design = "open"
    lower_is_better: bool = False
    ordered: bool = False

    def __post_init__(self) -> None:
        _check_amount("margin", self.margin)
        _check_amount("resolution", self.resolution)
        if not isinstance(self.confidence, numbers.Real) or not 0 < self.alpha < 1:
            raise UserError(
                f"confidence should be a number between 0 and 1, such as 0.95, received {self.confidence!r}"
            )
        if self.design not in get_args(Design):
            raise UserError(f"design should be {' or '.join(get_args(Design))}, received {self.design!r}")

    @property
    def alpha(self) -> float:
        """The probability that any of the intervals misses."""
        return round(1 - self.confidence, 12)  # 0.05 rather than 0.050000000000000044


def _check_amount(name: str, value: object) -> None:
    if not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
        raise UserError(f"{name} should be a number of 0 or more, in the unit of the scores, received {value!r}")


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Result:
    """The comparison of variant b with variant a. Difference and interval are of b − a, in the unit of the scores.

    Attributes:
        a: the first variant.
        b: the second variant.
        n: the number of common seeds, from `from_seed` on; the smaller number of runs if runs are not paired.
        difference: the mean of b − a; NaN without a seed, and in the fixed design of `decide` before all seeds exist.
        low: the lower bound of the interval; -inf if the data exclude no difference; above `high` if the interval is
            empty, see `statistics.intervals.running_interval`.
        high: the upper bound; inf likewise.
        verdict: the verdict on b; "unchanged" if both have the same score in every common seed, of at least two; for
            `decide`, which could add seeds, of at least ten.
        seeds_projected: if undecided, the number of seeds with a verdict if mean and standard deviation stay as they
            are; None if there is none.
        seeds_worst_case: the same for any mean.
        level: the probability that the interval misses.
        outliers: the number of runs that are outliers among those of their variant, see `statistics.outliers`. With
            outliers a result is never equivalent, and better or worse only if a sign test agrees.
        from_seed: the first seed that is used; lower ones may have been the reason for the comparison.
        low_new_images: the lower bound of the interval for new seeds and new test images; None if there is none.
        high_new_images: the upper bound.
        verdict_new_images: the verdict that is read off this interval.
        images_needed: if seeds can give no verdict on new images, the number of test images that is projected to.
        n_a: the number of runs of a in the comparison.
        n_b: the number of runs of b in the comparison.
        paired: whether the differences are taken seed by seed.
        tied: whether every seed has the same difference, which is not 0, and no resolution is given, so that the data
            have no information on its uncertainty.
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
    level: float
    outliers: int = 0
    from_seed: int = 0
    low_new_images: float | None = None
    high_new_images: float | None = None
    verdict_new_images: Verdict | None = None
    images_needed: int | None = None

    def swapped(self) -> "Result":
        """The result of a compared with b."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            verdict=SWAPPED.get(self.verdict, self.verdict),
            n_a=self.n_b,
            n_b=self.n_a,
            low_new_images=_negative(self.high_new_images),
            high_new_images=_negative(self.low_new_images),
            verdict_new_images=SWAPPED.get(self.verdict_new_images, self.verdict_new_images),
        )


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """Results whose intervals hold simultaneously, in the order of the pairs.

    Attributes:
        metric: the name of the score.
        settings: how the variants were compared.
        items: one result for each pair.
        remarks: what was left out or assumed, one sentence each.
        unit: the unit of the scores, written after numbers; "" for none.
        scope: what the intervals generalise to.
        family: the number of intervals that hold simultaneously; larger than `len(items)` for a part of a family.
        item: what the second interval calls a test item.
        grouped: whether test items are in groups, such as those of one writer, so that only groups are independent.

    Example:
        >>> import many_seeds as ms
        >>> scores = {"base": [1, 2, 1, 2, 1, 2], "wide": [5, 6, 5, 6, 5, 7], "deep": [2, 1, 1, 2, 2, 1]}
        >>> results = ms.compare(scores, baseline="base", margin=0.5)
        >>> results["base", "wide"].verdict, results[1].verdict
        ('better', 'undecided')
        >>> print(results)
                                                                seeds needed:
                                                                    projected
        a     b     verdict on b  score, b − a     interval  n   (worst case)
        ----  ----  ------------  ------------  -----------  -  -------------
        base  wide  better                +4.2  +2.9 … +5.4  6              –
        base  deep  undecided             +0.0  −2.8 … +2.8  6       44 (172)
        <BLANKLINE>
        The 2 intervals hold simultaneously with 95 % confidence, ...
        >>> results.to_frame()[["a", "b", "n", "verdict"]]
              a     b  n    verdict
        0  base  wide  6     better
        1  base  deep  6  undecided
        >>> figure = results.plot("intervals.png")
    """

    metric: str
    settings: Settings
    items: tuple[Result, ...]
    remarks: tuple[str, ...] = ()
    unit: str = ""
    scope: str = "other seeds"
    family: int = 0
    item: str = "image"
    grouped: bool = False

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
        """The result of a pair, `results["base", "wide"]`, or at a position, `results[0]`.

        Raises:
            KeyError: the pair was not compared; the pair (b, a) is another one.
            IndexError: there is no such position.
        """
        if not isinstance(key, tuple | str):
            return self.items[key]
        if isinstance(key, str) or key not in self._by_pair:
            raise KeyError(f"no comparison of {key}; expected one of {listed(list(self._by_pair))}")
        return self._by_pair[key]

    @functools.cached_property
    def _by_pair(self) -> dict[Pair, Result]:
        return {(result.a, result.b): result for result in self.items}

    def __str__(self) -> str:
        """The table, the guarantee of the intervals and the remarks, as the command prints them."""
        return text.as_text(self)

    def _repr_markdown_(self) -> str:  # shown by notebooks
        return self.to_markdown()

    def of(self, pairs: Sequence[Pair]) -> "Results":
        """The results of some pairs, in either order, with the intervals of the whole family.

        Raises:
            KeyError: a pair was not compared.
        """
        return replace(self, items=tuple(self._of(pair) for pair in pairs))

    def _of(self, pair: Pair) -> Result:
        back = pair[::-1]
        return self[back].swapped() if back in self._by_pair and pair not in self._by_pair else self[pair]

    def to_frame(self) -> pd.DataFrame:
        """The results as a data frame with one row for each pair.

        Returns:
            The columns a, b, score (its name), and n, difference, low, high, verdict, low_new_images, high_new_images,
            verdict_new_images, seeds_projected, seeds_worst_case, images_needed, outliers of `Result`; numbers of seeds
            and images as Int64, with missing values.
        """
        table = pd.DataFrame([asdict(result) | {"score": self.metric} for result in self.items], columns=COLUMNS)
        bounds = {name: "float64" for name in COLUMNS if name.endswith("_new_images") and name != "verdict_new_images"}
        return table.astype(dict.fromkeys(COUNTS, "Int64") | bounds)

    def to_dict(self) -> dict[str, Any]:
        """Metric, settings, results and remarks as JSON values; the bounds of an infinite interval, and NaN, are None.

        The resolution has the key "step", its name in earlier versions.
        """
        settings = {"step" if name == "resolution" else name: value for name, value in asdict(self.settings).items()}
        results = [{name: _json_value(value) for name, value in asdict(result).items()} for result in self.items]
        return {
            "metric": self.metric,
            "settings": settings,
            "family": self.family,
            "results": results,
            "remarks": list(self.remarks),
        }

    def to_markdown(self) -> str:
        """The table, the guarantee of the intervals and the remarks as Markdown, for pull requests and notebooks."""
        return text.as_markdown(self)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """A forest plot of the intervals.

        Args:
            path: file to write, with the suffix .png, .svg or .pdf; None for no file.

        Returns:
            The matplotlib figure.

        Raises:
            UserError: the suffix is another one, there are no results or too many for a figure, or the file can't be
                written.
        """
        from many_seeds.output import forest, plots  # matplotlib takes as long to import as everything else

        figure = forest.forest(self)
        if path is not None:
            plots.write(Path(path), figure)
        return figure
