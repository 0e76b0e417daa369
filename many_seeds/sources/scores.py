"""Scores of runs, checked: the form to which every source is brought."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MISSING_NUMBERS = ("nan", "na", "n/a", "none", "null")  # how programs write a missing score
LARGEST, SMALLEST = 1e150, 1e-150  # absolute values of scores: squares of others are infinite or 0
OTHER_UNIT = f"use another unit, so that absolute values are between {SMALLEST:g} and {LARGEST:g}"
DIVERGED = "a run that diverged counts: give it the score of a model that has learned nothing"
BY_POSITION = (
    "sequences are paired by position, so to leave out a run that was not made, give a data frame with a column seed"
)

RowName = Callable[[int], str]  # from the position of a row to how an error calls it, such as "line 3"


@dataclass(frozen=True)
class VariantScores:
    """Scores of the runs of one variant.

    Attributes:
        seeds: int [n], ascending indices into `Scores.seeds`; int [0] if seeds are not known.
        scores: float64 [n], in the same order.
    """

    seeds: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Scores of the runs of all variants.

    Attributes:
        metric: name of the score.
        variants: the scores of each variant, in the order of the input.
        seeds: names of the seeds.
        paired: whether seeds are known, so that variants can be compared seed by seed.
        remarks: what was left out or assumed, one sentence each.
    """

    metric: str
    variants: dict[str, VariantScores]
    seeds: list[str]
    paired: bool
    remarks: list[str] = field(default_factory=list)


def from_arrays(arrays: Mapping[str, np.ndarray], metric: str = "score") -> Scores:
    """Scores from arrays, paired by position.

    Args:
        arrays: variant → float64 [seeds], of the seeds 0, 1, 2, …; variants may have different numbers of seeds.
        metric: name of the score.

    Returns:
        The checked scores.

    Raises:
        UserError: a name is blank or has control characters; an array is empty, not one-dimensional or not finite; the
            square of a score overflows or underflows.
    """
    _check_names(list(arrays))
    for name, values in arrays.items():
        _check_array(name, values)
    seeds = [str(seed) for seed in range(max(map(len, arrays.values()), default=0))]
    variants = {name: VariantScores(np.arange(len(values)), values) for name, values in arrays.items()}
    return Scores(metric, variants, seeds, paired=True)


def from_columns(
    metric: str, variant: pd.Series, seed: pd.Series | None, score: pd.Series, row_name: RowName, remarks: list[str]
) -> Scores:
    """Scores from columns with one row for each run.

    Variants and seeds are read as text, without surrounding blanks.

    Args:
        metric: name of the score.
        variant: names of variants [runs].
        seed: seeds [runs]; None if they are not known or not shared, so that runs are not paired.
        score: scores [runs].
        row_name: how an error calls the row at a position.
        remarks: what was left out or assumed, one sentence each.

    Returns:
        The checked scores.

    Raises:
        UserError: there are no rows; a variant or seed is missing; a score is not finite, or its square overflows or
            underflows; a variant has a seed twice; some seeds are numbers and others are not.
    """
    if score.empty:
        raise UserError(f"expected a score for each variant and seed, found no rows with {metric}")
    variant = _complete_text(variant, row_name)
    seed = None if seed is None else _complete_text(seed, row_name)
    values = _finite_values(score, metric, row_name)
    codes, names = pd.factorize(variant)
    _check_names(list(names))
    if seed is None:
        rows = _rows_of_variants(codes, np.arange(len(values)))
        unknown = np.array([], dtype=int)
        variants = {name: VariantScores(unknown, values[of]) for name, of in zip(names, rows, strict=True)}
        return Scores(metric, variants, [], paired=False, remarks=remarks)
    seeds, seed_names = pd.factorize(_normalized_seeds(seed, row_name))
    _check_seeds_unique(variant, seed_names.take(seeds), row_name)
    rows = _rows_of_variants(codes, seeds)
    variants = {name: VariantScores(seeds[of], values[of]) for name, of in zip(names, rows, strict=True)}
    return Scores(metric, variants, list(seed_names), paired=True, remarks=remarks)


def first_duplicate(names: Iterable[str]) -> str | None:
    """The first name that occurs more than once; None if there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _rows_of_variants(codes: np.ndarray, seeds: np.ndarray) -> list[np.ndarray]:
    """The rows of each variant, ordered by seed.

    Args:
        codes: int [runs], the index of the variant.
        seeds: int [runs], the index of the seed.
    """
    order = np.lexsort((seeds, codes))
    return np.split(order, np.cumsum(np.bincount(codes))[:-1])


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if CONTROL_CHARACTERS.search(name):  # a CI service reads some lines of a log as commands
            raise UserError(f"names of variants should have no line breaks or control characters, received {name!r}")
    for name in names:
        if not name.strip():
            raise UserError(f"every variant should have a name, received {name!r}")


def _check_array(name: str, values: np.ndarray) -> None:
    if values.ndim != 1 or not len(values):
        raise UserError(
            f"the scores of {name} should be a sequence of numbers, one for each seed, received an array of shape "
            f"{values.shape}"
        )
    invalid = _invalid_rows(values)
    if len(invalid):
        first = values[invalid[0]]
        advice = OTHER_UNIT if np.isfinite(first) else f"{BY_POSITION}; {DIVERGED}"
        raise UserError(
            f"the scores of {name} should be finite numbers, received {first} at index {invalid[0]} "
            f"({counted(len(invalid), 'such score')}): {advice}"
        )


def as_text(column: pd.Series) -> pd.Series:
    """The cells as text without blanks around it. A missing cell stays missing, which pandas 2 would call "nan"."""
    return column.astype(str).str.strip().where(column.notna())


def _complete_text(column: pd.Series, row_name: RowName) -> pd.Series:
    text = as_text(column)
    text = text.mask(text == "")
    if text.isna().any():
        raise UserError(f"{row_name(int(text.isna().argmax()))} has no {column.name}: expected one in every row")
    return text


def _normalized_seeds(column: pd.Series, row_name: RowName) -> pd.Series:
    """Seeds with equal numbers written alike: 3.0 and 03 are 3.

    Raises:
        UserError: some are numbers and others are not, as where a row has the mean of the runs.
    """
    numbers = {text: _normalized_number(text) for text in column.unique()}
    words = [text for text, number in numbers.items() if number is None]
    if not words:
        return column.map(numbers)
    if len(words) < len(numbers):
        first = row_name(int((column == words[0]).argmax()))
        raise UserError(
            f"{first} has {words[0]!r} as {column.name}, while other seeds are numbers "
            f"({counted(len(words), 'such seed')}): remove rows that aggregate runs, such as a mean, or name all seeds "
            "in one way"
        )
    return column


def _normalized_number(text: str) -> str | None:
    try:
        return str(int(text) if text.lstrip("+-").isdecimal() else float(text)).removesuffix(".0")
    except ValueError:
        return None


def _finite_values(column: pd.Series, metric: str, row_name: RowName) -> np.ndarray:
    """The column as float64 [runs].

    Raises:
        UserError: a value is missing, not a number, NaN or infinite, or its square overflows or underflows.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    invalid = _invalid_rows(values)
    if len(invalid):
        first = column.iloc[invalid[0]]
        text = first if isinstance(first, str) else ""
        raise UserError(
            f"{row_name(int(invalid[0]))} should have a finite number as {metric}, received {_described(first)} "
            f"({counted(len(invalid), 'such score')}): {_advice(text, values[invalid[0]])}"
        )
    return values


def _described(value: Any) -> str:
    """How an error shows a value that is not a valid score."""
    if isinstance(value, str) and value:
        return repr(value)
    if value == "" or pd.isna(value):
        return "an empty value or NaN"
    # MLflow stores an infinite metric as the largest finite number.
    return str(value) if abs(value) < np.finfo(np.float64).max else str(math.copysign(math.inf, value))


def _invalid_rows(values: np.ndarray) -> np.ndarray:
    """Indices of values that are NaN or infinite, or whose squares overflow or underflow."""
    return np.flatnonzero(~(np.abs(values) <= LARGEST) | ((values != 0) & (np.abs(values) < SMALLEST)))


def _advice(text: str, value: float) -> str:
    """How to fix an invalid score.

    Args:
        text: the score as it was written, "" if it was not text.
        value: the score as it was read, NaN if it is not a number.
    """
    if abs(value) < np.finfo(np.float64).max:
        return OTHER_UNIT
    if "," in text:
        return "write decimals with a point"
    if "%" in text:
        return "write percentages as plain numbers"
    if text and np.isnan(value) and text.casefold() not in MISSING_NUMBERS:
        return "write scores as plain numbers, or leave the column out if it does not have scores"
    return f"remove it if the run was not made; {DIVERGED}"


def _check_seeds_unique(variant: pd.Series, seed: pd.Index, row_name: RowName) -> None:
    keys = pd.DataFrame({"variant": variant.to_numpy(), "seed": seed})
    again = np.flatnonzero(keys.duplicated())
    if not len(again):
        return
    name, number = keys.iloc[again[0]]
    first = int(((keys["variant"] == name) & (keys["seed"] == number)).argmax())
    raise UserError(
        f"variant {name} has seed {number} twice, in {row_name(first)} and {row_name(int(again[0]))} "
        f"({counted(len(again), 'such row')}): expected one score for each variant and seed. Where a table has several "
        "metrics, epochs or data sets, choose rows with --where; where further columns distinguish variants, name them "
        "with --by. In Python, pass a data frame with only these rows, and join such columns in its column variant"
    )
