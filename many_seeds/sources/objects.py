"""Scores from what `many_seeds.compare` accepts: a data frame, a mapping of arrays, or a path."""

import itertools
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.sources.reading import Reading, from_table
from many_seeds.sources.run_files import read_tables
from many_seeds.sources.scores import Scores, first_duplicate, from_arrays
from many_seeds.sources.shapes import SEED, check_runs
from many_seeds.sources.tables import BY, UNNAMED, score_columns


def read_scores(scores: pd.DataFrame | Mapping[str, Any] | str | Path, reading: Reading) -> Scores:
    """Scores from a data frame, a mapping from variant to an array [seeds], or a file or pattern of files.

    Raises:
        UserError: see `many_seeds.compare`.
    """
    if isinstance(scores, Mapping):
        if replace(reading, metric=None, lower_is_better=None) != Reading():
            raise UserError("a mapping has the scores of each variant, paired by position: expected no other option")
        return _from_mapping(scores, reading.metric or "score")
    if isinstance(scores, pd.DataFrame):
        table = scores.set_axis(pd.RangeIndex(1, len(scores) + 1, name="row")).rename(columns=str)
    elif isinstance(scores, str | Path):
        table = read_tables([str(scores)], reading.text_columns)
    else:
        raise UserError(f"scores should be a data frame, a mapping or a path, received {type(scores).__name__}")
    if (duplicate := first_duplicate(table.columns)) is not None:
        raise UserError(f"the data frame has the column {duplicate!r} twice: expected each name once")
    if replace(reading, lower_is_better=None) == Reading():
        reading = replace(reading, metric=_score_column(table))
    return from_table(table, reading)


def _from_mapping(scores: Mapping[Any, Any], metric: str) -> Scores:
    if (duplicate := first_duplicate(map(str, scores))) is not None:
        raise UserError(f"two variants have the name {duplicate}, as text: expected each name once")
    _check_same_index(scores)
    return from_arrays({str(name): _as_floats(str(name), values) for name, values in scores.items()}, metric)


def _check_same_index(scores: Mapping[Any, Any]) -> None:
    """Check that pandas series have their seeds in one order: they are paired by position."""
    series = {name: values for name, values in scores.items() if isinstance(values, pd.Series)}
    for (first, a), (second, b) in itertools.pairwise(series.items()):
        n = min(len(a), len(b))
        if not a.index[:n].equals(b.index[:n]):
            raise UserError(
                f"scores in a mapping are paired by position, but the series of {first} and {second} have different "
                f"indexes: sort them alike, or give a data frame with the columns {BY}, {SEED} and one of scores"
            )


def _as_floats(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"the scores of {name} should be a sequence of finite numbers, one for each seed, received "
            f"{reprlib.repr(values)}"
        ) from error


def _score_column(table: pd.DataFrame) -> str:
    """The one column of scores in a table with the columns variant and seed."""
    columns = list(table.columns)
    if BY not in columns or SEED not in columns:
        check_runs(table, [BY], SEED)
        raise UserError(
            f"expected the columns {BY}, {SEED} and one of scores, received {listed(columns)}; if each column is a "
            "variant, give a mapping from its name to its scores, or wide=True"
        )
    candidates = score_columns(table, [*UNNAMED, BY, SEED])
    if len(candidates) != 1:
        raise UserError(
            f"expected one column of scores beside {BY} and {SEED}, found {listed(candidates)}: name it with metric="
        )
    return candidates[0]
