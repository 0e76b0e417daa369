"""Aggregate stage: the scores of all runs into statistics, tables, figures and the report."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stages import files, params, records, terminal, tracking
from stages.aggregate import figures, present, report, tables
from stages.aggregate.present import Shown
from stages.aggregate.report import Picture, Section
from stages.aggregate.runs import VariantRuns, read_runs
from stages.params import Params

Parts = list[Shown | Picture]
HARDEST = 24


class Output:
    """Writes every table and figure as it is made, and gives back what the report shows of it."""

    def __init__(self) -> None:
        self._written: set[Path] = set()

    def data(self, name: str, table: pd.DataFrame) -> None:
        self._written_to(records.TABLES / f"{name}.csv", files.csv_bytes(table))

    def table(self, table: pd.DataFrame, shown: Shown) -> Shown:
        self.data(shown.name, table)
        self._written_to(records.TABLES / f"{shown.name}.md", shown.markdown().encode())
        return shown

    def figure(self, name: str, figure: Figure, caption: str) -> Picture:
        self._written_to(records.PLOTS / f"{name}.png", figures.png(figure))
        return Picture(name, figures.svg(figure, caption, name), caption)

    def _written_to(self, path: Path, content: bytes) -> None:
        files.write_bytes(path, content)
        self._written.add(path)

    def remove_others(self) -> None:
        """Delete the tables and figures of an earlier study that this one does not have."""
        for folder in (records.TABLES, records.PLOTS):
            files.remove_unknown(folder, {path.name for path in self._written if path.parent == folder})


def aggregate(study: Params) -> None:
    runs = read_runs(study)
    output = Output()
    main = [runs[name] for name in tables.main_variants(study)]
    sections = [
        pairs_section(runs, study, output),
        *chain_sections(runs, study, output),
        variants_section(runs, study, output),
        curves_section(main, output),
        mistakes_section(runs, main, output),
        closed_form_section(main, output),
    ]
    approaches, ranking = tables.approaches(runs, study), tables.ranking(runs, study)
    first: Parts = [
        output.table(approaches, present.approaches(approaches, study)),
        output.figure("approaches", figures.approaches(approaches, study.statistics), "Test error of each approach."),
    ]
    if not ranking.empty:
        first.append(output.table(ranking, present.ranking(ranking, study)))
    output.data("scores", tables.scores(runs))
    output.data("curves", tables.learning_curves(runs))
    title, sentence = present.headline(approaches, ranking, study)
    page = report.render(title, sentence, first, [section for section in sections if section.parts], study)
    files.write_bytes(records.REPORT, page.encode())
    files.write_json(records.CHAMPION, tables.champion(runs))
    files.write_json(records.SUMMARY, tables.summary(runs, study.statistics))
    files.write_json(records.ACCURACY, tables.accuracy(runs))
    output.remove_others()


def pairs_section(runs: tables.Runs, study: Params, output: Output) -> Section:
    parts: Parts = []
    table = tables.comparisons(runs, study)
    if not table.empty:
        parts.append(output.table(table, present.comparisons(table, study)))
        caption = "Tuned against reference: difference of mean test accuracy."
        parts.append(output.figure("comparisons", figures.forest(table, study.statistics), caption))
    for pair in study.comparisons:
        scores = tables.per_seed(runs, pair.a, pair.b)
        parts.append(output.table(scores, present.per_seed(scores, pair.a, pair.b)))
        caption = f"Test accuracy of {pair.a} and {pair.b}, seed by seed; dashed: means."
        parts.append(output.figure(f"pair_{pair.a}_{pair.b}", figures.pair(runs[pair.a], runs[pair.b]), caption))
    return Section("pairs", "The pairs", "", parts)


def chain_sections(runs: tables.Runs, study: Params, output: Output) -> list[Section]:
    if not study.chains:
        return []
    parts: Parts = []
    for chain in study.chains:
        table = tables.ablations(runs, study, chain)
        parts.append(output.table(table, present.ablations(table, study, chain)))
        figure = figures.forest(table, study.statistics)
        caption = f"What each step of the {chain} chain changed, with both intervals"
        caption += ", and what one seed said in 2020." if table["difference_2020"].notna().any() else "."
        parts.append(output.figure(f"ablations_{chain}", figure, caption))
    table = tables.selection(runs, study)
    parts.append(output.table(table, present.selection(table)))
    return [Section("steps", "The steps", "", parts)]


def variants_section(runs: tables.Runs, study: Params, output: Output) -> Section:
    table, noise, then = (
        tables.variants(runs, study.statistics),
        tables.variance(runs),
        tables.reproduction(runs, study),
    )
    parts: Parts = [output.table(table, present.variants(table, study)), output.table(noise, present.variance(noise))]
    # The figures of 2020 are MNIST's: beside those of another data set they would mislead.
    if study.data.name == "mnist" and not then.empty:
        parts.append(output.table(then, present.reproduction(then, study)))
    return Section("variants", "Every variant", "", parts)


def curves_section(main: list[VariantRuns], output: Output) -> Section:
    networks = [variant for variant in main if variant.is_network]
    parts: Parts = [
        output.figure(
            f"curves_{variant.name}",
            figures.learning_curves(variant),
            f"{variant.name}: median over the seeds still training, band from the lowest to the highest.",
        )
        for variant in networks
    ]
    if networks:
        caption = "Accuracy minus confidence: below zero a model is too sure of itself. Bins of 30 test images or more."
        parts.append(output.figure("calibration", figures.calibration(networks), caption))
    return Section("curves", "Learning curves and calibration", "", parts)


def mistakes_section(runs: tables.Runs, main: list[VariantRuns], output: Output) -> Section:
    parts: Parts = []
    table = tables.hardest(runs, HARDEST)
    if not table.empty:
        pixels = {
            int(index): image
            for variant in runs.values()
            for index, image in zip(variant.hardest, variant.hardest_images, strict=True)
        }
        # Of an image that is hard only for all variants together, no variant may have kept the pixels.
        drawn = table[table["image"].isin(pixels)]
        figure = figures.hardest(drawn, [pixels[image] for image in drawn["image"]])
        caption = "The hardest digits of all: true class → what most wrong runs see (share of runs that are wrong)."
        parts += [
            output.table(table, present.hardest(table)),
            output.figure("hardest", figure, caption),
        ]
    for variant in main:
        caption = f"{variant.name}: test images by true and predicted class, mean over seeds; colour shows mistakes."
        parts.append(output.figure(f"confusion_{variant.name}", figures.confusion(variant), caption))
        caption = f"{variant.name}: digits that most seeds get wrong, true → seen (seeds wrong)."
        parts.append(output.figure(f"misclassified_{variant.name}", figures.misclassified(variant), caption))
    return Section("mistakes", "Mistakes", "", parts)


def closed_form_section(main: list[VariantRuns], output: Output) -> Section:
    parts: Parts = []
    for variant in main:
        if not variant.is_network:
            caption = f"{variant.name}: dev error against the strength of the ridge penalty."
            parts.append(output.figure(f"alpha_{variant.name}", figures.alpha_search(variant), caption))
        if variant.weights is not None:
            caption = f"{variant.name}: weights of each class; blue pixels speak for it, orange ones against."
            parts.append(output.figure(f"weights_{variant.name}", figures.weights(variant), caption))
    return Section("closed-form", "The closed-form classifiers", "", parts)


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.aggregate", __doc__)
    study = params.load()
    aggregate(study)
    publisher = tracking.Publisher(study)
    publisher.publish_variants(list(study.variants))
    publisher.publish_study()
    print((records.TABLES / "approaches.md").read_text())


if __name__ == "__main__":
    main()
