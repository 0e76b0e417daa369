"""Scores of anybody's runs, from CSV or JSON-lines files or standard input.

Whatever they come from, they end as `Scores`, or in an error that says what was expected, what was found, and where.
"""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import StudyError

STDIN = "-"
BY, SEED = "variant", "seed"
SHOWN = 10  # names in a message
LINES = 100_000  # of JSON at a time: pandas takes a kilobyte for each

Place = Callable[[int], str]


@dataclass(frozen=True)
class Runs:
    """The runs of one variant.

    seeds: int [n], ascending, places in Scores.seeds; empty where they are not known.
    scores: float [n], in the same order.
    """

    seeds: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """The score of each run of each variant.

    seeds: the names of the seeds.
    paired: whether the seeds are known, so that variants can be compared seed by seed.
    remarks: what was left out or taken for granted, a sentence each.
    """

    metric: str
    variants: dict[str, Runs]
    seeds: list[str]
    paired: bool
    remarks: list[str]


def named(names: Sequence[Any]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:SHOWN])
    return (shown or "none") + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def of_columns(
    metric: str, variant: pd.Series, seed: pd.Series | None, score: pd.Series, place: Place, remarks: list[str]
) -> Scores:
    """Scores of three columns [runs]; without `seed` they are not paired. `place` names a row in an error.

    Raises:
        StudyError: no rows; a score that is no finite number; a row without variant or seed; a seed twice.
    """
    if not len(score):
        raise StudyError(f"expected a score for each variant and seed, found no rows with {metric}")
    for column in (variant, seed):
        if column is not None and column.isna().any():
            raise StudyError(f"{place(int(column.isna().argmax()))} has no {column.name}: expected one in every row")
    values = _finite(score, metric, place)
    codes, names = pd.factorize(variant)
    seeds, labels = (np.arange(len(values)), []) if seed is None else pd.factorize(seed, sort=False)
    order = np.lexsort((seeds, codes))
    if seed is not None:
        _refuse_twice(codes, seeds, order, place, [str(name) for name in names], [str(label) for label in labels])
    found = {}
    for name, rows in zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        found[str(name)] = Runs(seeds[rows] if seed is not None else np.array([], dtype=int), values[rows])
    return Scores(metric, found, [str(label) for label in labels], seed is not None, remarks)


def _finite(column: pd.Series, metric: str, place: Place) -> np.ndarray:
    """The column as float64 [runs].

    Raises:
        StudyError: a value is missing, no number, NaN or infinite.
    """
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return values
    first = column.iloc[bad[0]]
    received = "nothing or NaN" if first is None or first == "" or pd.isna(first) else repr(first)
    hint = "take the row out if the run did not happen; a run that diverged counts, so give it the score that it has"
    if isinstance(first, str) and "," in first:
        hint = "write decimals with a point"
    elif isinstance(first, str) and "%" in first:
        hint = "write percentages as plain numbers"
    raise StudyError(
        f"{place(int(bad[0]))} should have a finite number as {metric}, received {received} "
        f"({len(bad):,} such rows): {hint}"
    )


def _refuse_twice(
    codes: np.ndarray, seeds: np.ndarray, order: np.ndarray, place: Place, names: list[str], labels: list[str]
) -> None:
    again = np.flatnonzero((np.diff(codes[order]) == 0) & (np.diff(seeds[order]) == 0))
    if len(again):
        one, other = order[again[0]], order[again[0] + 1]
        raise StudyError(
            f"variant {names[codes[one]]} has seed {labels[seeds[one]]} twice, in {place(int(one))} and "
            f"{place(int(other))} ({len(again):,} such rows): expected one score for each variant and seed. Where "
            "several metrics, epochs or data sets are mixed, choose with --where; where more tells variants apart, "
            "name it with --by"
        )


def read_table(source: str, text_columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file (with commas, semicolons or tabs) or a file of JSON lines, told apart by how it begins; "-" is stdin.

    Args:
        source: path of the file.
        text_columns: what is read as text, so that 1 and 1.0 stay as they are written; columns that may be missing.

    Raises:
        StudyError: there is no such file, it is empty, or it is neither.
    """
    if source == STDIN:
        content = sys.stdin.buffer.read()
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise StudyError(f"{source} can't be read: {error.strerror}") from error
    name = "standard input" if source == STDIN else source
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        raise StudyError(f"{name} is empty: expected a header and a row for each run")
    if b"\0" in content[:4096]:
        raise StudyError(f"{name} is no text in UTF-8: expected CSV or JSON lines")
    if content.lstrip()[:1] == b"[":
        raise StudyError(f"{name} is a JSON array: expected an object on each line (`jq -c '.[]'` makes them)")
    try:
        read = _json_lines if content.lstrip()[:1] == b"{" else _csv
        return read(content, name, text_columns)
    except UnicodeDecodeError as error:
        raise StudyError(f"{name} is no text in UTF-8 ({error}): save it as UTF-8") from error


def _csv(content: bytes, name: str, text_columns: Sequence[str]) -> pd.DataFrame:
    first = content.lstrip().split(b"\n", 1)[0].decode()
    separator = max(",;\t", key=first.count)
    header = [column.strip() for column in next(csv.reader([first.strip("\r")], delimiter=separator))]
    if twice := [column for column, count in Counter(header).items() if count > 1]:
        raise StudyError(f"{name} has the column {twice[0]!r} twice: expected each name once")
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            names=header,
            header=0,
            dtype={column: str for column in text_columns if column in header},
            keep_default_na=False,  # else a variant can't be called NA
            na_values=[""],
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
        )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise StudyError(f"{name} is no CSV file with a header and the columns {named(header)}: {error}") from error
    return table


def _json_lines(content: bytes, name: str, text_columns: Sequence[str]) -> pd.DataFrame:
    try:
        with pd.read_json(io.BytesIO(content), lines=True, dtype=False, chunksize=LINES) as parts:
            table = pd.concat(parts, ignore_index=True)
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f"{name} should have a JSON object on each line: {_bad_line(content) or error}") from error
    for column in {*text_columns} & {*table.columns}:
        present = table[column].notna()
        table[column] = table[column].where(~present, table[column][present].map(str))
    return table


def _bad_line(content: bytes) -> str | None:
    for number, line in enumerate(content.decode().splitlines(), 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return f"line {number} is {line[:60]!r}"
        except json.JSONDecodeError as error:
            return f"line {number}, column {error.colno}: {error.msg}"
    return None


def long_scores(
    table: pd.DataFrame, metric: str | None, seed: str | None, by: Sequence[str], where: Sequence[str]
) -> Scores:
    """Scores of a table with a row for each run.

    Args:
        table: of `read_table`.
        metric: the column of the scores; None where it is the only one with numbers left.
        seed: the column of the seeds; None: they are not known, or not shared.
        by: the columns that tell variants apart.
        where: conditions COLUMN=VALUE that a row has to meet.

    Raises:
        StudyError: a column is missing, or see `of_columns`.
    """
    remarks = []
    for name in by:
        _require(table, name, "--by", "the variants; --wide if each column is a variant")
    if seed is not None:
        _require(table, seed, "--seed", "the seeds; --unpaired if runs have none in common")
    rows = np.ones(len(table), dtype=bool)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise StudyError(f"--where should be COLUMN=VALUE, received {condition!r}")
        _require(table, column, "--where", "what to choose by")
        rows &= np.asarray(table[column].astype(str) == value)
        if not rows.any():
            raise StudyError(f"no row has {condition}; {column} is one of {named(list(table[column].unique()))}")
    places = np.flatnonzero(rows)
    if where:
        remarks.append(f"{len(places):,} of {len(table):,} rows meet {' and '.join(where)}")
    used = [*by, seed or SEED, *(condition.partition("=")[0] for condition in where)]
    metric = metric or _only_number(table, used)
    _require(table, metric, "--metric", "the scores")
    chosen = table[rows]
    return of_columns(
        metric,
        _variant_names(chosen, by),
        chosen[seed] if seed else None,
        chosen[metric],
        lambda row: f"row {places[row] + 1:,}",
        remarks,
    )


def wide_scores(table: pd.DataFrame, metric: str | None, seed: str | None) -> Scores:
    """Scores of a table with a column for each variant; an empty cell is a run that did not happen.

    Without a column for the seeds, the rows are the seeds.

    Raises:
        StudyError: see `of_columns`.
    """
    seeds = table[seed] if seed in table.columns else pd.Series(np.arange(len(table)).astype(str), name="row")
    names = [name for name in table.columns if name != seed]
    remarks = [] if seed in table.columns else [f"no column {seed}: the runs of a row are taken to share their seed"]
    long = pd.concat(
        [pd.DataFrame({"variant": name, "seed": seeds.astype(str), "score": table[name]}) for name in names],
        ignore_index=True,
    )
    there = np.flatnonzero(long["score"].notna())
    if empty := len(long) - len(there):
        remarks.append(f"{empty:,} empty cells are taken for runs that did not happen")
    long = long.iloc[there]

    def place(row: int) -> str:
        column, at = divmod(int(there[row]), len(table))
        return f"column {names[column]}, row {at + 1:,}"

    return of_columns(metric or "score", long["variant"], long["seed"], long["score"], place, remarks)


def _require(table: pd.DataFrame, name: str, option: str, what: str) -> None:
    if name not in table.columns:
        raise StudyError(
            f"there is no column {name!r}: name with {option} the column of {what}. There are: "
            f"{named(list(table.columns))}"
        )


def _only_number(table: pd.DataFrame, used: Sequence[str]) -> str:
    others = [str(name) for name in table.columns if name not in used]
    numbers = [str(name) for name in table[others].select_dtypes("number").columns]
    left = numbers or others
    if len(left) != 1:
        raise StudyError(f"name the column of the scores with --metric: expected one with numbers, found {named(left)}")
    return left[0]


def _variant_names(table: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """The value of `by`, or where it is several "name=value name=value", as text [rows]."""
    for name in by:
        if table[name].isna().any():
            return table[name]  # of_columns says where
    texts = [table[name].astype(str).str.strip() for name in by]
    if len(by) == 1:
        return texts[0]
    joined = f"{by[0]}=" + texts[0]
    for name, text in zip(by[1:], texts[1:], strict=True):
        joined = joined + f" {name}=" + text
    return joined
