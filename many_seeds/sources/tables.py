"""Scores from tables: CSV and JSON-lines files, standard input and data frames."""

import csv
import io
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.sources.scores import Scores, counted, listed, of_columns

STDIN = "-"
BY, SEED = "variant", "seed"
UNNAMED = ("", "Unnamed: 0")  # the header of pandas' index, as it is written, and as it is after one more reading
NUMBERS = ("integer", "floating", "mixed-integer-float")  # of pandas' words for what a column holds


def read_table(source: str, text_columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file (with commas, semicolons or tabs) or a file of JSON lines, told apart by how it begins; "-" is stdin.

    The rows are named by the line that they are in, or by their number where lines and rows differ; the index says
    which: `line` or `row`.

    Args:
        source: path of the file.
        text_columns: what a CSV file has as text, so that 1 and 1.0 stay as they are written; columns that may be
            missing, or have other capitals.

    Raises:
        UserError: there is no such file, it is empty, or it is neither.
    """
    if source == STDIN:
        if sys.stdin is None:
            raise UserError("standard input is closed: expected the scores there; name a FILE, or redirect one")
        content = sys.stdin.buffer.read()
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise UserError(f"{source} can't be read: {error.strerror}") from error
    name = "standard input" if source == STDIN else source
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.strip():
        raise UserError(f"{name} is empty: expected a header and a row for each run")
    if b"\0" in content[:4096]:
        raise UserError(f"{name} is no text in UTF-8: expected CSV or JSON lines")
    if content.lstrip()[:1] == b"[":
        raise UserError(f"{name} is a JSON array: expected an object on each line (`jq -c '.[]'` makes them)")
    try:
        if content.lstrip()[:1] == b"{":
            return _numbered(_json_lines(content, name), content, 0)
        return _numbered(_csv(content, name, text_columns), content, 1)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no text in UTF-8 ({error}): save it as UTF-8") from error


def _numbered(table: pd.DataFrame, content: bytes, heads: int) -> pd.DataFrame:
    """The table, its rows named by their lines, of which the first `heads` are none."""
    lines = [number for number, line in enumerate(content.split(b"\n"), 1) if line.strip()][heads:]
    # A cell in quotes may have several lines.
    known = len(lines) == len(table)
    return table.set_axis(pd.Index(lines if known else range(1, len(table) + 1), name="line" if known else "row"))


def _csv(content: bytes, name: str, text_columns: Sequence[str]) -> pd.DataFrame:
    content = content.lstrip(b" \n")
    if content[:1] == b"#":
        raise UserError(f"{name} begins with a comment: expected the header; take the line out, or only its #")
    first = content.split(b"\n", 1)[0].decode()
    if first.startswith("sep="):
        raise UserError(f"{name} begins with {first}, a line for Excel: expected the header; take it out")
    outside = re.sub(r'"[^"]*"', "", first)
    separator = max(",;\t", key=outside.count)
    header = []
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n")
        header = [column.strip() for column in next(csv.reader(lines, delimiter=separator))]
        if twice := [column for column, count in Counter(header).items() if count > 1]:
            raise UserError(f"{name} has the column {twice[0]!r} twice: expected each name once")
        texts = {column.casefold() for column in text_columns}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of cells that it would leave out
            return pd.read_csv(
                io.BytesIO(content),
                sep=separator,
                names=header,
                header=0,
                dtype={column: str for column in header if column.casefold() in texts},
                keep_default_na=False,  # else a variant can't be called NA
                na_values=[""],
                skipinitialspace=True,
                index_col=False,
                low_memory=False,
                float_precision="round_trip",
            )
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        why = "rows have more cells than the header" if isinstance(error, Warning) else str(error).strip()
        raise UserError(f"{name} is no CSV file with a header and the columns {listed(header)}: {why}") from error


def _json_lines(content: bytes, name: str) -> pd.DataFrame:
    """With the values as they are written: pandas would make 3 beside a missing value 3.0, and NaN a missing one."""
    columns: dict[str, list[Any]] = {}
    count = 0
    for number, line in enumerate(content.decode().split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_once, parse_constant=str)
        except json.JSONDecodeError as error:
            why = f"line {number}, column {error.colno}: {error.msg}"
            raise UserError(f"{name} should have a JSON object on each line: {why}") from error
        except KeyError as error:
            raise UserError(f"{name} has the key {error} twice in line {number}: expected each name once") from error
        if not isinstance(row, dict):
            raise UserError(f"{name} should have a JSON object on each line: line {number} is {line[:60]!r}")
        for new in row.keys() - columns.keys():
            columns[new] = [None] * count
        for column, values in columns.items():
            values.append(row.get(column))
        count += 1
    return pd.DataFrame(columns, dtype=object, index=range(count))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise KeyError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return row


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
        UserError: a column is missing, or see `of_columns`.
    """
    remarks = []
    by = list(dict.fromkeys(by))
    if seed in by:
        raise UserError(f"--by names {seed!r}, the column of the seeds: expected what tells variants apart")
    for name in by:
        _require(table, name, "--by", "the variants; --wide if each column is a variant")
    if seed is not None:
        _require(table, seed, "--seed", "the seeds; --unpaired if runs have none in common")
    rows = np.ones(len(table), dtype=bool)
    for condition in where:
        column, equals, value = map(str.strip, condition.partition("="))
        if not equals:
            raise UserError(f"--where should be COLUMN=VALUE, received {condition!r}")
        _require(table, column, "--where", "what to choose by")
        rows &= np.asarray(table[column].astype(str).str.strip() == value)
        if not rows.any():
            raise UserError(f"no row has {condition}; {column} is one of {listed(list(table[column].unique()))}")
    chosen = table[rows]
    if where:
        remarks.append(f"{len(chosen):,} of {counted(len(table), 'row')} met {' and '.join(where)}")
    used = [*UNNAMED, *by, seed or SEED, *map(column_of, where)]
    if metric is not None and metric in (*by, seed):
        raise UserError(
            f"--metric names {metric!r}, the column of {'the seeds' if metric == seed else 'the variants'}: expected "
            "that of the scores"
        )
    metric = metric or _only_number(table, used)
    _require(table, metric, "--metric", "the scores")
    return of_columns(
        metric,
        _variant_names(chosen, by),
        chosen[seed] if seed else None,
        chosen[metric],
        lambda row: f"{chosen.index.name} {chosen.index[row]:,}",
        remarks,
    )


def column_of(condition: str) -> str:
    """The column of a condition COLUMN=VALUE."""
    return condition.partition("=")[0].strip()


def wide_scores(table: pd.DataFrame, metric: str | None, seed: str | None) -> Scores:
    """Scores of a table with a column for each variant; an empty cell is a run that did not happen.

    Args:
        table: of `read_table`.
        metric: what the scores are called; None for "score".
        seed: the column of the seeds; None: `SEED`, with whatever capitals, or where there is none, the rows are the
            seeds.

    Raises:
        UserError: there is no such column, there is no other, one has no name, or see `of_columns`.
    """
    remarks: list[str] = []
    first = next(iter(table.columns), None)
    if first in UNNAMED and np.array_equal(table.iloc[:, 0], np.arange(len(table))):
        table = table.iloc[:, 1:]
        remarks.append("the first column has no name and counts the rows: it is left out")
    if unnamed := [name for name in table.columns if name in UNNAMED]:
        raise UserError(
            f"--wide takes each column for a variant, but column {list(table.columns).index(unnamed[0]) + 1} has no "
            f"name: give it one ({SEED}, if it has the seeds), or take it out"
        )
    column = _seed_column(table, seed, remarks)
    seeds = pd.Series(np.arange(len(table)), table.index) if column is None else table[column]
    names = [name for name in table.columns if name != column]
    if not names:
        raise UserError(f"--wide expects a column for each variant, found {f'only {column}' if column else 'none'}")
    long = pd.concat([pd.DataFrame({"variant": name, "seed": seeds, "score": table[name]}) for name in names])
    there = np.flatnonzero(long["score"].notna())
    if empty := len(long) - len(there):
        cells = "1 empty cell is" if empty == 1 else f"{empty:,} empty cells are"
        remarks.append(f"{cells} taken for runs that did not happen")
    long = long.iloc[there]

    def place(row: int) -> str:
        return f"column {long['variant'].iloc[row]}, {table.index.name} {long.index[row]:,}"

    return of_columns(metric or "score", long["variant"], long["seed"], long["score"], place, remarks)


def _seed_column(table: pd.DataFrame, seed: str | None, remarks: list[str]) -> str | None:
    if seed is not None:
        _require(table, seed, "--seed", "the seeds, or leave it out where the rows are the seeds")
        return seed
    found = sorted((name for name in table.columns if name.casefold() == SEED), key=lambda name: name != SEED)
    if not found:
        remarks.append(
            f"no column {SEED}: the runs of a row are taken to share their seed, and each column for a variant "
            f"({listed(list(table.columns))}); --seed names a column that is none"
        )
    elif found[0] != SEED:
        remarks.append(f"the column {found[0]} is taken for the seeds")
    return found[0] if found else None


def _require(table: pd.DataFrame, name: str, option: str, what: str) -> None:
    if name not in table.columns:
        raise UserError(
            f"there is no column {name!r}: name with {option} the column of {what}. There are: "
            f"{listed(list(table.columns))}"
        )


def _only_number(table: pd.DataFrame, used: Sequence[str]) -> str:
    left = score_columns(table, used)
    if len(left) != 1:
        raise UserError(f"name the column of the scores with --metric: expected one with numbers, found {listed(left)}")
    return left[0]


def score_columns(table: pd.DataFrame, used: Sequence[str]) -> list[str]:
    """The columns that can be the scores: of those that are not used, the ones with numbers, or all where none has."""
    others = [str(name) for name in table.columns if name not in used]
    numbers = [name for name in others if pd.api.types.infer_dtype(table[name], skipna=True) in NUMBERS]
    return numbers or others


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
