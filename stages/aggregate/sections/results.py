"""Results of comparisons as tables of the report."""

import pandas as pd

from many_seeds import text
from many_seeds.results import Results
from stages.aggregate.report.parts import Cell, Column, Row
from stages.study.identities import SCORE


def table(found: Results) -> pd.DataFrame:
    """The results as they are committed."""
    return found.to_frame().assign(score=SCORE)


def columns(found: Results) -> list[Column]:
    """The columns of a table of results that follow the names of the variants."""
    cells: dict[tuple[str | None, str], list[Cell]] = {}
    for result, row in zip(found, text.rows(found), strict=True):
        cells[result.a, result.b] = cells[None, result.b] = row

    def column(place: int, header: str) -> Column:
        def cell(row: Row) -> Cell:
            return cells[row.get("a"), row["b"] if "b" in row else row["step"]][place]

        return header, cell

    return [column(place, header) for place, header in list(enumerate(text.header(found)))[2:]]
