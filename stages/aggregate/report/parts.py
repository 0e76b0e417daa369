"""The parts of the report: tables with formatted columns, plots, and sections of both."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from many_seeds.output import text as wording

NOTHING = "–"
LONG = 60  # characters

Row = dict[str, Any]
Cell = tuple[str, float | str]  # its text, and the value that it is sorted by
CellOf = Callable[[Row], Cell]
Column = tuple[str, CellOf]
Filter = Callable[[Row], Sequence[str]]  # the values of a row, one of which a reader may choose
Link = Callable[[Row], str]  # the id of a part of the page, "" for none


@dataclass(frozen=True)
class Table:
    """A data frame that is kept as CSV, and its columns in the report.

    Attributes:
        name: of its files.
        title: in the report.
        caption: below the title; may be empty.
        data: the data frame.
        columns: header and formatter of each column.
        on_page: whether it is in the report, or in files only.
        fold: the heading below which it is hidden until a reader opens it; "" for a part that is always shown.
        filters: by which rows can be chosen: a name, and the values of each row.
        links: header of a column → where its cells link to.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    columns: Sequence[Column]
    on_page: bool = True
    fold: str = ""
    filters: Mapping[str, Filter] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)

    @property
    def header(self) -> list[str]:
        return [header for header, _ in self.columns]

    @property
    def rows(self) -> list[list[Cell]]:
        return [[cell(row) for _, cell in self.columns] for row in plain_rows(self.data)]

    @property
    def long_columns(self) -> list[bool]:
        """Whether a column has texts that would fill many lines."""
        return [any(len(text) > LONG for text, _ in column) for column in zip(*self.rows, strict=True)]

    @property
    def targets(self) -> list[list[str]]:
        """Where each cell links to, "" for nowhere: [rows, columns]."""
        links = [self.links.get(header, lambda row: "") for header in self.header]
        return [[link(row) for link in links] for row in plain_rows(self.data)]

    @property
    def choices(self) -> dict[str, list[list[str]]]:
        """Name of a filter → the values of each row."""
        rows = list(plain_rows(self.data))
        return {name: [list(values(row)) for row in rows] for name, values in self.filters.items()}

    def markdown(self) -> str:
        table = wording.markdown(self.header, [[text for text, _ in row] for row in self.rows])
        lines = [f"## {wording.escaped(self.title)}", wording.escaped(self.caption), table]
        return "\n\n".join(filter(None, lines)) + "\n"


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: of its file.
        figure: the figure.
        caption: below it.
        numbers: what it shows, in words, for readers who do not see it.
        tooltips: gid of an artist → the text that is shown beside the pointer.
        wide: whether it takes the whole width of the page, and scrolls on a phone.
        fold: as of `Table`.
    """

    name: str
    figure: Figure
    caption: str
    numbers: str = ""
    tooltips: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False
    fold: str = ""

    @property
    def on_page(self) -> bool:
        return True


Part = Table | Plot


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    parts: Sequence[Part]

    @property
    def shown(self) -> list[Part]:
        """The parts that are on the page: figures first."""
        return sorted((part for part in self.parts if part.on_page), key=lambda part: isinstance(part, Table))

    @property
    def folds(self) -> list[tuple[str, list[Part]]]:
        """The headings of hidden parts, with the parts below each; first "", with the parts that are always shown."""
        ordered = sorted(self.shown, key=lambda part: part.fold != "")
        names = dict.fromkeys(part.fold for part in ordered)
        return [(name, [part for part in ordered if part.fold == name]) for name in names]


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
