"""Results of comparisons as tables of the report."""

from collections.abc import Sequence

import pandas as pd

from many_seeds.output import text
from many_seeds.results import Result, Results, Settings
from stages.aggregate.report.parts import Cell, Column, Row
from stages.study.params import Params
from stages.study.scores import SCORES


def of_study(compared: Sequence[Results], study: Params) -> Results:
    """The results by the study's score and margin; none if the study names no such comparison."""
    settings = study.statistics
    for found in compared:
        if (score_name(found), found.settings.margin) == (settings.score, settings.equivalence_margin):
            return found
    score = SCORES[settings.score]
    margin, lower_is_better = settings.equivalence_margin, score.lower_is_better
    return Results(score.label, Settings(margin=margin, lower_is_better=lower_is_better), (), unit=score.unit)


def score_name(found: Results) -> str:
    """The name of the score of results."""
    return next(name for name, score in SCORES.items() if score.label == found.metric)


def file_name(base: str, found: Results, compared: Sequence[Results], study: Params) -> str:
    """The name of a table or figure of results: `base` for the study's score and margin, else one of its own.

    Args:
        base: the first part of the name.
        found: the results.
        compared: all results of the study, for each score and margin.
        study: the content of params.yaml.
    """
    settings, score, margin = study.statistics, score_name(found), found.settings.margin
    own = f"{base}_{score}" if score != settings.score else base
    by_default = (score, margin) == (settings.score, settings.equivalence_margin)
    several = sum(other.metric == found.metric for other in compared) > 1
    return f"{own}_{margin:g}" if several and not by_default else own


def page_name(name: str, page: int) -> str:
    """The name of a page of a figure: that of the first is the figure's own.

    Args:
        name: of the figure.
        page: counted from 0.
    """
    return f"{name}_{page + 1}" if page else name


def qualifier(found: Results, study: Params) -> str:
    """What a title adds for another score or margin than the study's: ", by log loss, margin 0.01 nats"."""
    settings, margin = study.statistics, f"margin {found.settings.margin:g} {found.unit}".rstrip()
    if score_name(found) != settings.score:
        return f", by {found.metric}, {margin}"
    return "" if found.settings.margin == settings.equivalence_margin else f", {margin}"


def sentence(result: Result, group: Results) -> str:
    """A result in words: "a → b: better, +0.25 (+0.10 … +0.39), n = 10; new images: undecided (−0.02 … +0.52)."."""
    (form,) = text.number_forms([result])
    found = f"{result.a} → {result.b}: {text.verdict(result)}"
    if result.n:
        found += f", {text.number(result.difference, form)} ({text.interval(result, form)}), n = {result.n}"
    if result.verdict_new_images and result.low_new_images is not None and result.high_new_images is not None:
        bounds = text.bounds(result.low_new_images, result.high_new_images, form)
        found += f"; new {group.item}s: {result.verdict_new_images} ({bounds})"
    return f"{found}."


def direction(found: Results) -> str:
    """A sentence for a caption where lower is better, else empty."""
    return f"A lower {found.metric} is better." if found.settings.lower_is_better else ""


def table(found: Results) -> pd.DataFrame:
    """The results as they are committed."""
    return found.to_frame().assign(score=score_name(found))


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
