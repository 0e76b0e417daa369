"""The parts of the report: tables with formatted columns, plots, and sections of both."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from many_seeds.output import text as wording

NOTHING = "–"

Row = dict[str, Any]
Cell = tuple[str, float | str]  # its text, and the value that it is sorted by
Column = tuple[str, Callable[[Row], Cell]]


@dataclass(frozen=True)
class Table:
    """A data frame that is kept as CSV, and its columns in the report.

    Attributes:
        name: of its files.
        title: in the report.
        caption: below the title; may be empty.
        data: the data frame.
        columns: header and formatter of each column.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    columns: Sequence[Column]

    @property
    def header(self) -> list[str]:
        return [header for header, _ in self.columns]

    @property
    def rows(self) -> list[list[Cell]]:
        return [[cell(row) for _, cell in self.columns] for row in plain_rows(self.data)]

    def markdown(self) -> str:
        table = wording.markdown(self.header, [[text for text, _ in row] for row in self.rows])
        lines = [f"## {wording.escaped(self.title)}", wording.escaped(self.caption), table]
        return "\n\n".join(filter(None, lines)) + "\n"


@dataclass(frozen=True)
class Plot:
    """A figure with a name and a caption."""

    name: str
    figure: Figure
    caption: str


Part = Table | Plot


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    parts: Sequence[Part]


def plain_rows(table: pd.DataFrame) -> Iterator[Row]:
    """The rows of a table, with None in place of NaN."""
    for row in table.to_dict("records"):
        yield {str(name): None if pd.isna(value) else value for name, value in row.items()}


def text(header: str, name: str) -> Column:
    """A column of text."""
    return header, lambda row: (NOTHING, "") if row[name] is None else (str(row[name]), str(row[name]))


def number(header: str, name: str, form: str = "{:,.0f}", scale: float = 1) -> Column:
    """A column of numbers, multiplied by `scale` and formatted."""
    # A missing value sorts below all others.
    return (
        header,
        lambda row: (NOTHING, -math.inf) if row[name] is None else (written(row[name] * scale, form), float(row[name])),
    )


def span(header: str, low: str, high: str, form: str, scale: float = 1) -> Column:
    """A column of intervals; "any" for an interval that is infinite."""

    def cell(row: Row) -> Cell:
        if row[low] is None:
            return NOTHING, -math.inf
        ends = [written(row[end] * scale, form) for end in (low, high)]
        return (" … ".join(ends) if math.isfinite(row[high]) else "any"), float(row[low])

    return header, cell


def written(value: float, form: str) -> str:
    """A formatted number with a typographic minus sign."""
    return form.format(value).replace("-", "−")


def images_of(data: str) -> str:
    """The word for the images of a data set."""
    return "digits" if data in ("mnist", "digits") else "images"
