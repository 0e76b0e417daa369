"""The report: a page without files, fonts or scripts from elsewhere."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from many_seeds.ledger import Row
from many_seeds.output import text
from many_seeds.output.forest import forest
from many_seeds.results import Results
from many_seeds.statistics import intervals
from stages.aggregate import reference_2020
from stages.aggregate.report import figures
from stages.aggregate.report.parts import Part, Plot, Section
from stages.aggregate.runs import Runs, VariantRuns
from stages.aggregate.sections import (
    approaches,
    calibration,
    chains,
    comparisons,
    convergence,
    curves,
    environments,
    ledger,
    misclassified,
    races,
    reproduction,
    results,
    ridge,
    variance,
    variants,
)
from stages.study.params import Params
from stages.study.races import RaceState
from stages.study.records.ledger_files import earlier_ledgers
from stages.study.records.results import diverged_sentence


def sections(
    runs: Runs, study: Params, compared: Sequence[Results], named: Sequence[Row], raced: Sequence[RaceState]
) -> list[Section]:
    """The sections of the report, the results of all comparisons first; empty ones are left out.

    Args:
        runs: the runs of all variants.
        study: the content of params.yaml.
        compared: the results of all its comparisons, for each score and margin.
        named: the rows of its ledger.
        raced: the states of its races.
    """
    main, of_study = main_variants(runs, study), results.of_study(compared, study)
    listed = [
        Section("overview", "Comparisons" if compared else "Overview", overview(compared, study, raced)),
        Section("approaches", "Approaches", approaches.parts(runs, study, of_study)),
        Section("comparisons", "Pairs of variants", comparisons.parts(runs, study, compared)),
        Section("chains", "Chains of steps", chains.parts(runs, study, of_study)),
        Section("races", "Races", races.parts(raced, study)),
        Section(
            "variants",
            "Variants",
            [*variants.parts(runs, study), *variance.parts(runs, study), *reproduction.parts(runs, study)],
        ),
        Section("convergence", "Convergence of the intervals", convergence.parts(runs, compared, study)),
        Section("curves", "Learning curves and calibration", [*curves.parts(main), *calibration.parts(main)]),
        Section("errors", "Misclassified images", misclassified.parts(runs, main, study)),
        Section("ridge", "Ridge regression", ridge.parts(main)),
        Section("ledger", "Ledger", ledger.parts(named, earlier_ledgers(), runs, study)),
    ]
    return [section for section in listed if section.parts]


def overview(compared: Sequence[Results], study: Params, raced: Sequence[RaceState]) -> list[Part]:
    """All comparisons of the study with their verdicts, in one figure for each score and margin, and its races."""
    found: list[Part] = []
    for group in compared:
        question = f"Is b better than a{results.qualifier(group, study)} (a → b)?"
        caption = " ".join(filter(None, [f"{question} {text.summary(group)}.", results.direction(group)]))
        found.append(Plot(results.file_name("overview", group, compared, study), forest(group), caption))
    return [*found, *races.figures(raced)]


def first_sentences(
    runs: Runs, study: Params, compared: Sequence[Results], raced: Sequence[RaceState]
) -> tuple[str, list[str]]:
    """The headline and the sentences below it: of the best approach, and of races, which come first if nothing else is
    compared.
    """
    title, sentence = approaches.headline(runs, study, results.of_study(compared, study))
    of_races = [f"{state.sentence}." for state in raced]
    if raced and not compared:
        return races.headline(raced[0]), [*of_races, sentence]
    return title, [sentence, *of_races]


def diverged_warnings(runs: Runs) -> list[str]:
    """A sentence for each variant with runs that diverged."""
    return [f"{sentence}." for variant in runs.values() if (sentence := diverged_sentence(variant))]


def one_class_warnings(runs: Runs) -> list[str]:
    """A sentence for each variant with runs that predict one class only."""
    found = []
    for name, variant in runs.items():
        if count := int(variant.predicts_one_class.sum()):
            seeds = f"{count} of {len(variant.seeds)} seed{'' if len(variant.seeds) == 1 else 's'}"
            found.append(f"{name} predicts one class only, the same for every test image: {seeds}.")
    return found


def ensemble_warnings(runs: Runs) -> list[str]:
    """A sentence on the ensembles with members that predict the same class for every image, if there are any."""
    found = []
    for name, variant in runs.items():
        constant = (variant.predicts_one_class | variant.diverged)[: variant.members]
        if count := int(constant.sum()):
            found.append(f"{name} ({count} of {variant.members})")
    return [f"Ensembles with members that predict one class only: {', '.join(found)}."] if found else []


def main_variants(runs: Runs, study: Params) -> list[VariantRuns]:
    """The variants that are an approach or in a comparison, not only steps of a chain, in the order of params.yaml."""
    named = {*study.approaches.values(), *(name for pair in study.comparisons for name in (pair.a, pair.b))}
    return [runs[name] for name in study.variants if name in named]


def render(
    sections: Sequence[Section],
    runs: Runs,
    study: Params,
    compared: Sequence[Results],
    raced: Sequence[RaceState],
) -> str:
    """The report as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["plot"] = lambda part: isinstance(part, Plot)
    environment.filters["svg"] = lambda part: figures.svg(part.figure, part.caption, part.name)
    title, sentences = first_sentences(runs, study, compared, raced)
    images = len(next(iter(runs.values())).truth)
    page = environment.get_template("report.html.j2").render(
        title=title,
        sentences=sentences,
        warnings=[*diverged_warnings(runs), *one_class_warnings(runs), *ensemble_warnings(runs)],
        guarantee=" ".join(text.guarantee(*compared)) if compared else races.guarantee(raced, study),
        sections=sections,
        verdicts=intervals.VERDICTS,
        data=study.data.name,
        in_2020=reference_2020.applies_to(study),
        images=f"{images:,}",
        seeds={name: len(variant.seeds) for name, variant in runs.items()},
        spread=_range(len(variant.seeds) for variant in runs.values()),
        environments=environments.paragraphs(runs, study),
        validation_percent=f"{100 * study.split.dev_fraction:g}",
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _range(numbers: Iterable[int]) -> str:
    """The only number, or the lowest and the highest."""
    found = sorted(set(numbers))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
