"""Results of comparisons as tables of the report."""

from collections.abc import Sequence

import pandas as pd

from many_seeds import intervals, text
from many_seeds.results import Pair, Results
from stages.aggregate.report.parts import Cell, Column, Row, number
from stages.aggregate.runs import Runs, shared_seeds
from stages.study import comparisons
from stages.study.params import Params


def results(runs: Runs, pairs: Sequence[Pair], study: Params) -> Results:
    """The results of these pairs; the level is shared by all pairs that params.yaml names."""
    accuracy = {name: runs[name].accuracy for pair in pairs for name in pair}
    images = len(next(iter(runs.values())).truth)
    return comparisons.compare_variants(accuracy, pairs, images, study)


def table(runs: Runs, found: Results) -> pd.DataFrame:
    """The results as they are committed, with 1.96 standard errors over the test images."""
    return comparisons.as_table(found, [_image_error(runs, (result.a, result.b)) for result in found])


def _image_error(runs: Runs, pair: Pair) -> float:
    a, b = (runs[name] for name in pair)
    n = shared_seeds([a, b])
    return intervals.image_error(b.correct[:n].mean(axis=0) - a.correct[:n].mean(axis=0))


def columns(found: Results) -> list[Column]:
    """The columns of a table of results that follow the names of the variants."""
    cells: dict[tuple[str | None, str], list[Cell]] = {}
    for result, row in zip(found, text.rows(found), strict=True):
        cells[result.a, result.b] = cells[None, result.b] = row

    def column(place: int, header: str) -> Column:
        def cell(row: Row) -> Cell:
            return cells[row.get("a"), row["b"] if "b" in row else row["step"]][place]

        return header, cell

    headers = list(enumerate(text.header(found)))[2:]
    return [*(column(place, header) for place, header in headers), number("± test images", "digits", "{:.3f}")]
