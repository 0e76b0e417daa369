"""Aggregate stage: the scores of all runs into answers, tables, figures and the report."""

from collections.abc import Iterable
from pathlib import Path

from many_seeds import console
from stages.aggregate import curves, drawing, report, summary
from stages.aggregate.parts import Section, Table
from stages.aggregate.runs import read_runs
from stages.study import files, params, paths
from stages.study.params import Params
from stages.tracking.publisher import Publisher


def aggregate(study: Params) -> None:
    runs = read_runs(study)
    sections = report.sections(runs, study)
    tables = {"scores.csv": summary.scores(runs), "curves.csv": curves.dev_losses(runs)}
    write(paths.TABLES, {name: files.csv_bytes(table) for name, table in tables.items()} | written_tables(sections))
    write(paths.PLOTS, written_figures(sections))
    files.write_bytes(paths.REPORT, report.render(sections, runs, study).encode())
    files.write_json(paths.CHAMPION, summary.champion(runs))
    files.write_json(paths.SUMMARY, summary.means(runs, study.statistics))
    files.write_json(paths.ACCURACY, summary.accuracy(runs))


def written_tables(sections: Iterable[Section]) -> dict[str, bytes]:
    tables = [part for section in sections for part in section.parts if isinstance(part, Table)]
    text = {f"{table.name}.md": table.markdown().encode() for table in tables}
    return text | {f"{table.name}.csv": files.csv_bytes(table.data) for table in tables}


def written_figures(sections: Iterable[Section]) -> dict[str, bytes]:
    pictures = [part for section in sections for part in section.parts if not isinstance(part, Table)]
    return {f"{picture.name}.png": drawing.png(picture.figure) for picture in pictures}


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write the files of a folder, and delete those of an earlier study that this one does not have."""
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.remove_unknown(folder, set(contents))


@console.command
def main() -> None:
    console.take_no_arguments("stages.aggregate", __doc__)
    study = params.load()
    aggregate(study)
    publisher = Publisher(study)
    publisher.publish_variants(list(study.variants))
    publisher.publish_study()
    for name in ("approaches", "comparisons"):
        if (path := paths.TABLES / f"{name}.md").exists():
            print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
