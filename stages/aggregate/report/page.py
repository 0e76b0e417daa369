"""The report: a page without files, fonts or scripts from elsewhere."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from many_seeds.ledger import Row
from many_seeds.output import text
from many_seeds.output.messages import counted
from many_seeds.results import Results
from many_seeds.statistics import intervals
from stages.aggregate import reference_2020
from stages.aggregate.report import figures
from stages.aggregate.report.parts import Plot, Section
from stages.aggregate.runs import Runs, VariantRuns
from stages.aggregate.sections import (
    approaches,
    calibration,
    chains,
    comparisons,
    convergence,
    curves,
    environments,
    images,
    ledger,
    misclassified,
    overview,
    races,
    reproduction,
    results,
    ridge,
    variance,
    variants,
)
from stages.study.params import Params
from stages.study.races import RaceState
from stages.study.records.data_summary import DataSummary
from stages.study.records.ledger_files import earlier_ledgers
from stages.study.records.results import diverged_sentence


def sections(
    runs: Runs,
    study: Params,
    compared: Sequence[Results],
    named: Sequence[Row],
    raced: Sequence[RaceState],
    data: DataSummary,
) -> list[Section]:
    """The sections of the report, the results of all comparisons first; empty ones are left out.

    Args:
        runs: the runs of all variants.
        study: the content of params.yaml.
        compared: the results of all its comparisons, for each score and margin.
        named: the rows of its ledger.
        raced: the states of its races.
        data: what the stage split has found in the images.
    """
    main, of_study = main_variants(runs, study), results.of_study(compared, study)
    by_seed, by_number = comparisons.parts(runs, study, compared), convergence.parts(runs, compared, study)
    plots = [part for part in [*by_seed, *by_number] if isinstance(part, Plot)]
    overviews, further = overview.figures(compared, study)
    listed = [
        Section("overview", "Overview", [*overviews, *races.figures(raced)]),
        Section("approaches", "Approaches", approaches.parts(runs, study, of_study)),
        Section("results", "All comparisons", [*further, *overview.tables(compared, study, plots)]),
        Section("races", "Races", races.parts(raced, study)),
        Section("convergence", "Convergence of the intervals", by_number),
        Section("comparisons", "Pairs seed by seed", by_seed),
        Section("chains", "Selection bias", chains.parts(runs, study, of_study)),
        Section(
            "variants",
            "Variants",
            [*variants.parts(runs, study), *variance.parts(runs, study), *reproduction.parts(runs, study)],
        ),
        Section("curves", "Learning curves and calibration", [*curves.parts(main), *calibration.parts(main)]),
        Section("errors", "Misclassified images", misclassified.parts(runs, main, study)),
        Section("ridge", "Ridge regression", ridge.parts(main)),
        Section("images", "Images", images.parts(data)),
        Section("ledger", "Ledger", ledger.parts(named, earlier_ledgers(), runs, study)),
    ]
    return [section for section in listed if section.parts]


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


def copies_warnings(data: DataSummary) -> list[str]:
    """A sentence for each kind of images that the study has twice."""
    return [sentence for sentence, _ in data.warnings()]


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
    data: DataSummary,
    champion: Mapping[str, Any] | None,
) -> str:
    """The report as HTML.

    Args:
        sections: of the report.
        runs: the runs of all variants.
        study: the content of params.yaml.
        compared: the results of all its comparisons, for each score and margin.
        raced: the states of its races.
        data: what the stage split has found in the images.
        champion: the content of champion.json.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["at"] = lambda values, place: values[place]
    environment.tests["plot"] = lambda part: isinstance(part, Plot)
    environment.filters["svg"] = lambda part: figures.svg(
        part.figure, f"{part.caption} {part.numbers}".strip(), part.name, part.tooltips
    )
    title, sentences = first_sentences(runs, study, compared, raced)
    test_images = len(next(iter(runs.values())).truth)
    page = environment.get_template("report.html.j2").render(
        title=title,
        sentences=sentences,
        verdicts_of=_verdicts(compared),
        served=_served(runs, champion),
        cost=_cost(runs, study, data, champion),
        warnings=[
            *copies_warnings(data),
            *diverged_warnings(runs),
            *one_class_warnings(runs),
            *ensemble_warnings(runs),
        ],
        guarantee=" ".join(text.guarantee(*compared)) if compared else races.guarantee(raced, study),
        sections=sections,
        verdicts=intervals.VERDICTS,
        data=study.data.name,
        in_2020=reference_2020.applies_to(study),
        images=f"{test_images:,}",
        seeds={name: len(variant.seeds) for name, variant in runs.items()},
        spread=_range(len(variant.seeds) for variant in runs.values()),
        environments=environments.paragraphs(runs, study),
        validation_percent=f"{100 * study.split.dev_fraction:g}",
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _verdicts(compared: Sequence[Results]) -> list[tuple[str, str]]:
    """How many comparisons have which verdict: on these test images, and on new ones."""
    found = [result for group in compared for result in group]
    verdicts: dict[str, list[str]] = {
        "These images": [result.verdict for result in found],
        "New images": [result.verdict_new_images for result in found if result.verdict_new_images],
    }
    return [(images, _counted(Counter(of))) for images, of in verdicts.items() if of]


def _counted(counts: Mapping[str, int]) -> str:
    """Numbers of verdicts: "25 comparisons: 8 better, 3 worse, 14 undecided"."""
    found = ", ".join(f"{counts[verdict]} {verdict}" for verdict in text.MARKDOWN_ORDER if counts.get(verdict))
    return f"{counted(sum(counts.values()), 'comparison')}: {found}"


def _cost(runs: Runs, study: Params, data: DataSummary, champion: Mapping[str, Any] | None) -> str:
    """The training of the study, and of the served model: epochs, and multiplications as the recipes estimate them."""
    image = next(iter(runs.values())).hardest_images.shape[1:]
    shape = (sum(data.train.values()), *image)
    each = {name: study.recipe(name).cost(shape) for name in runs}
    total = sum(each[name] * len(of.seeds) for name, of in runs.items())
    count = sum(len(of.seeds) for of in runs.values())
    found = f"{counted(count, 'run')}, about {_scientific(total)} multiplications"
    if champion is None:
        return f"{found}."
    return f"{found}; each run of {champion['variant']} about {_scientific(each[champion['variant']])}."


def _scientific(value: float) -> str:
    """A number with two digits: "3.4·10¹³"."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(figures.RAISED)}"


def _served(runs: Runs, champion: Mapping[str, Any] | None) -> str:
    """Which model is served, its accuracy, and the rule by which it was chosen."""
    if champion is None:
        return "none, as no approach has a validation split and a run that did not diverge."
    of = runs[champion["variant"]]
    accuracy = of.accuracy[of.seeds.index(champion["seed"])]
    return (
        f"{champion['approach']} ({champion['variant']}, seed {champion['seed']}), {100 * accuracy:.2f} % of these "
        f"{len(of.truth):,} test images. Chosen by this rule: {champion['rule']}."
    )


def _range(numbers: Iterable[int]) -> str:
    """The only number, or the lowest and the highest."""
    found = sorted(set(numbers))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
