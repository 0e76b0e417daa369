"""Numbers as people write them in tables: decimal commas and percentages."""

import re
from collections.abc import Sequence

import pandas as pd

from many_seeds.sources.scores import as_text

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
PERCENT = re.compile(r"\s*%$")


def with_numbers(table: pd.DataFrame, text_columns: Sequence[str], *, semicolons: bool) -> pd.DataFrame:
    """A table whose columns of decimal commas or percentages are numbers; 98.3% is 98.3.

    Args:
        table: as it was parsed, with such columns as text.
        text_columns: columns that stay text, in lower case.
        semicolons: whether cells are separated by semicolons, so that 1,234 is no thousand.

    Returns:
        The table. A column in which only some cells have commas as decimals, or percent signs, stays as it is.
    """
    for name in table.columns:
        if name.casefold() in text_columns or pd.api.types.is_numeric_dtype(table[name]):
            continue
        cells = as_text(table[name].dropna())
        if (numbers := _numbers(cells, semicolons)) is not None:
            table[name] = numbers.reindex(table.index)
    return table


def _numbers(cells: pd.Series, semicolons: bool) -> pd.Series | None:
    """The numbers of a column; None if they are not written in one of these ways."""
    percent = cells.str.contains(PERCENT)
    if percent.any() and not percent.all():
        return None
    cells = cells.str.replace(PERCENT, "", regex=True)
    commas = cells.str.fullmatch(DECIMAL_COMMA)
    if not (commas | cells.str.fullmatch(NUMBER)).all() or not (commas.any() or percent.any()):
        return None
    if commas.any() and not semicolons and cells[commas].str.fullmatch(THOUSANDS).all():
        return None
    if commas.any() and cells[~commas].str.contains(".", regex=False).any():
        return None  # 1.234 beside 0,5 may be a thousand
    return pd.to_numeric(cells.str.replace(",", "."))
