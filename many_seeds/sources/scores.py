"""The scores of runs, whatever they were read from, checked."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError

SHOWN = 10  # names in a message
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NO_NUMBER = ("nan", "na", "n/a", "none", "null")  # a missing score, as programs write it
LARGEST, SMALLEST = 1e150, 1e-150  # of scores: the squares of others are infinite, or 0
OTHER_UNIT = f"write the scores in another unit, so that their sizes are between {SMALLEST:g} and {LARGEST:g}"
DIVERGED = "a run that diverged counts, so give it the score of a model that has learnt nothing"
BY_POSITION = "to leave out a run that did not happen, give a data frame with seeds, since these are paired by position"

Place = Callable[[int], str]


@dataclass(frozen=True)
class Runs:
    """The runs of one variant.

    Attributes:
        seeds: int [n], ascending indices into Scores.seeds; empty where seeds are not known.
        scores: float [n], in the same order.
    """

    seeds: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """The score of each run of each variant.

    Attributes:
        metric: what the scores are called.
        variants: the runs of each variant, in the order in which they came.
        seeds: the names of the seeds.
        paired: whether the seeds are known, so that variants can be compared seed by seed.
        remarks: what was left out or assumed, a sentence each.
    """

    metric: str
    variants: dict[str, Runs]
    seeds: list[str]
    paired: bool
    remarks: list[str] = field(default_factory=list)


def of_arrays(scores: Mapping[str, np.ndarray], metric: str = "score") -> Scores:
    """Scores of arrays [seeds], of the seeds 0, 1, 2, …; variants may have different numbers of seeds.

    Raises:
        UserError: a name is blank or has control characters; an array is empty, not one-dimensional or not finite; a
            score is too large or too small to be squared.
    """
    _refuse_odd_names(list(scores))
    for name, values in scores.items():
        if values.ndim != 1 or not len(values):
            raise UserError(
                f"the scores of {name} should be a sequence of numbers, one for each seed, received an array of shape "
                f"{values.shape}"
            )
        if len(bad := _unusable(values)):
            first = values[bad[0]]
            advice = OTHER_UNIT if np.isfinite(first) else f"{BY_POSITION}; {DIVERGED}"
            raise UserError(
                f"the scores of {name} should be finite numbers, received {first} at index {bad[0]} "
                f"({counted(len(bad), 'such score')}): {advice}"
            )
    seeds = [str(seed) for seed in range(max(map(len, scores.values()), default=0))]
    return Scores(metric, {name: Runs(np.arange(len(one)), one) for name, one in scores.items()}, seeds, True)


def listed(names: Sequence[Any]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:SHOWN])
    return (shown or "none") + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def counted(count: int, what: str) -> str:
    """A count and what it is of: 1 row, 2 rows."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def of_columns(
    metric: str, variant: pd.Series, seed: pd.Series | None, score: pd.Series, place: Place, remarks: list[str]
) -> Scores:
    """Scores of three columns [runs]; without `seed` they are not paired. `place` names a row in an error.

    Variants and seeds are texts, without the blanks around them.

    Raises:
        UserError: no rows; a score that is no finite number; a row without variant or seed; a seed twice.
    """
    if not len(score):
        raise UserError(f"expected a score for each variant and seed, found no rows with {metric}")
    variant, seed = _texts(variant), None if seed is None else _texts(seed)
    for column in (variant, seed):
        if column is not None and column.isna().any():
            raise UserError(f"{place(int(column.isna().argmax()))} has no {column.name}: expected one in every row")
    values = _finite(score, metric, place)
    codes, names = pd.factorize(variant)
    _refuse_odd_names(list(names))
    seeds, labels = (np.arange(len(values)), []) if seed is None else pd.factorize(_seed_names(seed, place))
    order = np.lexsort((seeds, codes))
    if seed is not None:
        _refuse_twice(codes, seeds, order, place, list(names), list(labels))
    found = {}
    for name, rows in zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        found[name] = Runs(seeds[rows] if seed is not None else np.array([], dtype=int), values[rows])
    return Scores(metric, found, list(labels), seed is not None, remarks)


def _refuse_odd_names(names: Sequence[str]) -> None:
    if odd := [name for name in names if CONTROL.search(name)]:  # on a line of its own, one can be a command to CI
        raise UserError(f"names of variants should be without line breaks and control characters, received {odd[0]!r}")
    if blank := [name for name in names if not name.strip()]:
        raise UserError(f"every variant should have a name, received {blank[0]!r}")


def _texts(column: pd.Series) -> pd.Series:
    text = column.astype(str).str.strip()
    return text.mask(text == "")


def _seed_names(column: pd.Series, place: Place) -> pd.Series:
    """The seeds, the same number in the same form: 3.0 and 03 are 3.

    Raises:
        UserError: some are numbers and others not, as where the rows of a mean are among those of the runs.
    """
    forms = {text: _plain_number(text) for text in column.unique()}
    words = [text for text, form in forms.items() if form is None]
    if not words:
        return column.map(forms)
    if len(words) < len(forms):
        first = place(int((column == words[0]).argmax()))
        raise UserError(
            f"{first} has {words[0]!r} as {column.name}, while others are numbers ({counted(len(words), 'such name')}):"
            " expected the seeds of runs; take out rows that sum runs up, or name all seeds in one way"
        )
    return column


def _plain_number(text: str) -> str | None:
    try:
        return str(int(text) if text.lstrip("+-").isdecimal() else float(text)).removesuffix(".0")
    except ValueError:
        return None


def _finite(column: pd.Series, metric: str, place: Place) -> np.ndarray:
    """The column as float64 [runs].

    Raises:
        UserError: a value is missing, no number, NaN, infinite, too large or too small to be squared.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = _unusable(values)
    if not len(bad):
        return values
    first = column.iloc[bad[0]]
    text = first if isinstance(first, str) else ""
    if text:
        received = repr(text)
    elif first == "" or pd.isna(first):
        received = "none, empty or NaN"
    else:
        # MLflow keeps the largest number for an infinite one.
        received = str(first) if abs(first) < np.finfo(np.float64).max else f"{math.copysign(math.inf, first)}"
    raise UserError(
        f"{place(int(bad[0]))} should have a finite number as {metric}, received {received} "
        f"({counted(len(bad), 'such score')}): {_advice(text, values[bad[0]])}"
    )


def _unusable(values: np.ndarray) -> np.ndarray:
    """Where values are NaN, infinite, too large or too small to be squared."""
    return np.flatnonzero(~(np.abs(values) <= LARGEST) | ((values != 0) & (np.abs(values) < SMALLEST)))


def _advice(text: str, value: float) -> str:
    """What to do about a score that is no number for us, as it was read and as it was written; "" if not as a text."""
    if abs(value) < np.finfo(np.float64).max:
        return OTHER_UNIT
    if "," in text:
        return "write decimals with a point"
    if "%" in text:
        return "write percentages as plain numbers"
    if text and np.isnan(value) and text.casefold() not in NO_NUMBER:
        return "if this is a column of scores, write plain numbers; if it is none, leave it out"
    return f"take it out if the run did not happen; {DIVERGED}"


def _refuse_twice(
    codes: np.ndarray, seeds: np.ndarray, order: np.ndarray, place: Place, names: list[str], labels: list[str]
) -> None:
    again = np.flatnonzero((np.diff(codes[order]) == 0) & (np.diff(seeds[order]) == 0))
    if len(again):
        one, other = order[again[0]], order[again[0] + 1]
        raise UserError(
            f"variant {names[codes[one]]} has seed {labels[seeds[one]]} twice, in {place(int(one))} and "
            f"{place(int(other))} ({counted(len(again), 'such row')}): expected one score for each variant and seed. "
            "Where several metrics, epochs or data sets are mixed in a long table, choose with --where; where more "
            "tells its variants apart, name it with --by"
        )
