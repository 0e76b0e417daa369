"""CSV and JSON files as tables."""

import csv
import io
import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.sources.cells import with_numbers
from many_seeds.sources.formats import as_utf8
from many_seeds.sources.json_documents import rows_of
from many_seeds.sources.scores import first_duplicate

STDIN = "-"


def read_table(source: str, text_columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file (with commas, semicolons or tabs), JSON lines or a JSON document, detected from the content.

    Args:
        source: path of the file, or "-" for standard input.
        text_columns: columns that a CSV file has as text, so that 1 and 1.0 stay as they are written, in upper or lower
            case; they may be missing.

    Returns:
        The table. Its index has the line of each row and is called `line`; where a row has several lines, it has the
        number of the row and is called `row`. Decimal commas and percentages are numbers.

    Raises:
        UserError: the file can't be read, is empty, or has another format.
    """
    name = "standard input" if source == STDIN else source
    content = as_utf8(_content(source), name)
    if not content.strip():
        raise UserError(f"{name} is empty: expected a header and a row for each run")
    try:
        if content.lstrip()[:1] in (b"{", b"["):
            return _parse_json(content, name)
        return _with_lines(_parse_csv(content, name, text_columns), content, header_lines=1)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not text in UTF-8 ({error}): save it as UTF-8") from error


def _content(source: str) -> bytes:
    if source == STDIN:
        if sys.stdin is None:
            raise UserError("standard input is closed: expected the scores there; name a FILE, or redirect one")
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{source} can't be read: {error.strerror}") from error


def _with_lines(table: pd.DataFrame, content: bytes, header_lines: int) -> pd.DataFrame:
    """The table, indexed by the lines of the file."""
    lines = [number for number, line in enumerate(content.split(b"\n"), 1) if line.strip()][header_lines:]
    if len(lines) == len(table):
        return table.set_axis(pd.Index(lines, name="line"))
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="row"))  # a quoted cell has several lines


def _parse_csv(content: bytes, name: str, text_columns: Sequence[str]) -> pd.DataFrame:
    content = content.lstrip(b" \n")
    first_line = content.split(b"\n", 1)[0].decode()
    _check_first_line(first_line, name)
    separator = max(",;\t", key=re.sub(r'"[^"]*"', "", first_line).count)
    header: list[str] = []
    try:
        header = _header(content, separator)
        if (duplicate := first_duplicate(header)) is not None:
            raise UserError(f"{name} has the column {duplicate!r} twice: expected each name once")
        table = _parse_rows(content, separator, header, text_columns)
        return with_numbers(table, [name.casefold() for name in text_columns], semicolons=separator == ";")
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = "rows have more cells than the header" if isinstance(error, Warning) else str(error).strip()
        raise UserError(f"{name} is not a CSV file with a header and the columns {listed(header)}: {reason}") from error


def _check_first_line(line: str, name: str) -> None:
    if line.startswith("#"):
        raise UserError(f"{name} begins with a comment: expected the header; remove the line, or only its #")
    if line.startswith("sep="):
        raise UserError(f"{name} begins with {line}, a line for Excel: expected the header; remove the line")


def _header(content: bytes, separator: str) -> list[str]:
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n")
    return [column.strip() for column in next(csv.reader(lines, delimiter=separator))]


def _parse_rows(content: bytes, separator: str, header: Sequence[str], text_columns: Sequence[str]) -> pd.DataFrame:
    as_text = {column.casefold() for column in text_columns}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas warns where it drops cells
        return pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            names=header,
            header=0,
            dtype={column: str for column in header if column.casefold() in as_text},
            keep_default_na=False,  # a variant may be called NA
            na_values=[""],
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
            float_precision="round_trip",
        )


def _parse_json(content: bytes, name: str) -> pd.DataFrame:
    """A table of the values as they are written, of a JSON document or of JSON lines."""
    text = content.decode()
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=str)
    except KeyError as error:
        raise UserError(f"{name} has the key {error} twice: expected each name once") from error
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or text.lstrip().startswith("["):
            reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
            raise UserError(f"{name} is not a JSON document or JSON lines: {reason}") from error
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [_parse_object(line, number, name) for number, line in lines]
        return _with_lines(_as_table(rows), content, header_lines=0)
    table = _as_table(rows_of(document, name))
    if len(table) == 1 and "\n" not in text.strip():
        return _with_lines(table, content, header_lines=0)  # JSON lines of one line
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="object"))


def _as_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """`pandas.read_json` would convert 3 to 3.0 where another row lacks the value, and NaN to a missing value."""
    columns = dict.fromkeys(key for row in rows for key in row)
    values = {column: [row.get(column) for row in rows] for column in columns}
    return pd.DataFrame(values, dtype=object, index=range(len(rows)))


def _parse_object(line: str, number: int, name: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=str)
    except json.JSONDecodeError as error:
        reason = f"line {number}, column {error.colno}: {error.msg}"
        raise UserError(f"{name} should have one JSON object per line: {reason}") from error
    except KeyError as error:
        raise UserError(f"{name} has the key {error} twice in line {number}: expected each name once") from error
    if not isinstance(row, dict):
        raise UserError(f"{name} should have one JSON object per line: line {number} is {line[:60]!r}")
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (duplicate := first_duplicate(key for key, _ in pairs)) is not None:
        raise KeyError(duplicate)
    return dict(pairs)
