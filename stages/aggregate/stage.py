"""Aggregation: the results of all runs as tables, figures, the report, and the files that programs read."""

from collections.abc import Iterable
from pathlib import Path

from stages.aggregate import summary
from stages.aggregate.report import figures, page
from stages.aggregate.report.parts import Section, Table
from stages.aggregate.runs import read_runs
from stages.aggregate.sections import curves
from stages.study import files, paths
from stages.study.comparisons import compare_named, named_comparisons
from stages.study.params import Params
from stages.study.races import named_races, race_states
from stages.study.records.ledger_files import read_ledger
from stages.study.records.seen import record_seen


def aggregate(study: Params) -> None:
    """Write metrics/ anew from metrics/runs, after recording the scores that the report shows as seen.

    Raises:
        UserError: results of a variant are missing or damaged, or have other seeds than params.yaml names; or a
            comparison is not in the ledger.
    """
    runs = read_runs(study)
    record_seen(study, {variant: len(of.scores) for variant, of in runs.items()})
    rows = read_ledger()
    compared = compare_named(runs, named_comparisons(study), study, rows)
    score = study.statistics.score
    raced = race_states(runs, named_races(study), study, rows)
    sections = page.sections(runs, study, compared, rows, raced)
    tables = {"scores.csv": summary.scores(runs, score), "curves.csv": curves.validation_losses(runs)}
    write(paths.TABLES, {name: files.csv_bytes(table) for name, table in tables.items()} | written_tables(sections))
    write(paths.PLOTS, written_figures(sections))
    files.write_bytes(paths.REPORT, page.render(sections, runs, study, compared, raced).encode())
    files.write_json(paths.CHAMPION, summary.champion(runs, score))
    files.write_json(paths.SUMMARY, summary.means(runs, study.statistics) | summary.of_races(raced))
    files.write_json(paths.ACCURACY, summary.metrics(runs, score) | summary.metrics_of_races(raced))


def written_tables(sections: Iterable[Section]) -> dict[str, bytes]:
    tables = [part for section in sections for part in section.parts if isinstance(part, Table)]
    text = {f"{table.name}.md": table.markdown().encode() for table in tables}
    return text | {f"{table.name}.csv": files.csv_bytes(table.data) for table in tables}


def written_figures(sections: Iterable[Section]) -> dict[str, bytes]:
    plots = [part for section in sections for part in section.parts if not isinstance(part, Table)]
    return {f"{plot.name}.png": figures.png(plot.figure) for plot in plots}


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write the files of a folder, and delete all others in it."""
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.remove_unknown(folder, set(contents))
