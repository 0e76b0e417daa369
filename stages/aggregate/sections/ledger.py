"""The ledger: all comparisons and races that the study has ever named, with their levels; results of withdrawn ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from many_seeds.ledger import Row
from many_seeds.output import text as wording
from many_seeds.results import Result
from stages.aggregate.report.parts import Column, Part, Table, number, text
from stages.aggregate.runs import Runs
from stages.study.comparisons import compare_evaluated, find_withdrawn, settings_of
from stages.study.params import Params
from stages.study.races import named_races
from stages.study.scores import SCORES

CAPTION = (
    "Each comparison has its level from the time when it was first named; the levels add up to at most {alpha:g}. "
    "Seeds below the first seed are not used: their scores were known before."
)
WITHDRAWN = " Withdrawn comparisons keep their level; their results are of the seeds that both variants have now."
RACES = " A race has its name and all its variants under a; a withdrawn one has no name any more."
MARGIN = text("margin", "margin")
MARGINS = " Margins are in the unit of the score, in the order of their use."
EARLIER = " This is ledger {number} of the study: its guarantee does not cover verdicts under the earlier {files}."


def parts(rows: Sequence[Row], earlier: Sequence[Path], runs: Runs, study: Params) -> list[Part]:
    here = [row for row in rows if row.data == study.data.name]
    if not here:
        return []
    results = withdrawn_results(here, runs, study)
    columns: list[Column] = [
        text("a", "a"),
        text("b", "b"),
        MARGIN,
        number("batch", "batch"),
        number("level", "level", "{:.2g}"),
        number("first seed", "from_seed"),
        text("withdrawn", "withdrawn"),
    ]
    caption = CAPTION.format(alpha=study.statistics.alpha) + MARGINS
    if any(row.withdrawn for row in here):
        caption += WITHDRAWN
        columns.append(text("result of withdrawn", "result"))
    if any(row.kind == "race" for row in here):
        caption += RACES
        columns.insert(0, text("kind", "kind"))
    rows_table = table(here, results, {race.identity(study): race.name for race in named_races(study)})
    if {row.score for row in here} == {study.statistics.score}:
        rows_table = rows_table.drop(columns="score")
    else:
        columns.insert(columns.index(MARGIN), text("score", "score"))
    if earlier:
        caption += EARLIER.format(number=len(earlier) + 1, files=", ".join(map(str, earlier)))
    title = "All comparisons that were named"
    return [Table("ledger", title, caption, rows_table, columns, fold=title)]


def withdrawn_results(rows: Sequence[Row], runs: Runs, study: Params) -> dict[str, Result]:
    """Identity → result of each withdrawn comparison whose variants the study still has."""
    truth, found = next(iter(runs.values())).truth, {}
    for row, (a, b) in find_withdrawn(study, rows):
        score = SCORES[row.score]
        # The last margin of a comparison by another score is in its unit, and the study's is not.
        margin = study.statistics.equivalence_margin if row.score == study.statistics.score else float(row.margins[-1])
        settings = settings_of(study.statistics, score, truth, ordered=True, margin=margin)
        found[row.identity] = compare_evaluated(
            a, b, runs[a], runs[b], score=score, level=row.level, settings=settings, from_seed=row.from_seed
        )
    return found


def table(rows: Sequence[Row], results: Mapping[str, Result], names: Mapping[str, str]) -> pd.DataFrame:
    """The rows of the ledger, with the result of withdrawn ones as text.

    Args:
        rows: the rows of the study.
        results: identity → result, of withdrawn comparisons.
        names: identity → name, of the races of the study.
    """
    described = {identity: _describe(result) for identity, result in results.items()}
    return pd.DataFrame(
        [
            {
                "kind": row.kind,
                "a": f"{names[row.identity]}: {row.a}" if row.identity in names else row.a,
                "b": row.b,
                "score": row.score,
                "margin": ", ".join(row.margins),
                "batch": row.batch,
                "level": row.level,
                "from_seed": row.from_seed,
                "withdrawn": row.withdrawn,
                "result": described.get(row.identity, ""),
            }
            for row in rows
        ]
    )


def _describe(result: Result) -> str:
    (form,) = wording.number_forms([result])
    return f"{wording.verdict(result)}, {wording.interval(result, form)}, n = {result.n}"
