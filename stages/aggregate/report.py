"""The report: one page that stands by itself."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from stages import sequential
from stages.aggregate import (
    answers,
    approaches,
    calibration,
    comparisons,
    course,
    curves,
    drawing,
    environments,
    mistakes,
    narrowing,
    reproduction,
    ridge,
    steps,
    variance,
    variants,
)
from stages.aggregate.parts import Part, Picture, Section
from stages.aggregate.runs import Runs, VariantRuns
from stages.params import Params


def sections(runs: Runs, study: Params) -> list[Section]:
    """All that the study has to show, the questions first; what it lacks has no section."""
    main = main_variants(runs, study)
    listed = [
        Section("answers", "The questions", glance(runs, study)),
        Section("approaches", "The approaches", approaches.parts(runs, study)),
        Section("pairs", "The pairs", comparisons.parts(runs, study)),
        Section("steps", "The steps", steps.parts(runs, study)),
        Section(
            "variants",
            "The variants",
            [*variants.parts(runs, study), *variance.parts(runs, study), *reproduction.parts(runs, study)],
        ),
        Section("narrowing", "How the answers narrowed", narrowing.parts(runs, study)),
        Section("curves", "Learning and calibration", [*curves.parts(main), *calibration.parts(main)]),
        Section("mistakes", "Mistakes", mistakes.parts(runs, main, study)),
        Section("ridge", "In closed form", ridge.parts(main)),
    ]
    return [section for section in listed if section.parts]


def glance(runs: Runs, study: Params) -> list[Part]:
    """Every question of the study with its verdict, in one figure."""
    pairs = answers.family(study)
    if not pairs:
        return []
    table = answers.answers(runs, pairs, study)
    figure = answers.forest(table, [f"{a} → {b}" for a, b in pairs], study.statistics.equivalence_margin)
    return [Picture("answers", figure, f"Is b better than a (a → b)? {answers.in_words(table)}")]


def main_variants(runs: Runs, study: Params) -> list[VariantRuns]:
    """The variants that stand for something by themselves, not only as a step of a chain, in params.yaml's order."""
    named = {*study.approaches.values(), *(name for pair in study.comparisons for name in (pair.a, pair.b))}
    return [runs[name] for name in study.variants if name in named]


def render(sections: Sequence[Section], runs: Runs, study: Params) -> str:
    """The page as HTML: no file, font or script from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    environment.filters["svg"] = lambda part: drawing.svg(part.figure, part.caption, part.name)
    title, sentence = approaches.headline(runs, study)
    images, questions = len(next(iter(runs.values())).truth), len(answers.family(study))
    page = environment.get_template("report.html.j2").render(
        title=title,
        sentence=sentence,
        promise=answers.promise(questions, images, study.statistics) if questions else "",
        sections=sections,
        verdicts=sequential.VERDICTS,
        data=study.data.name,
        in_2020=course.told(study),
        images=f"{images:,}",
        seeds={name: variant.seeds for name, variant in runs.items()},
        spread=_range(variant.seeds for variant in runs.values()),
        environments=environments.paragraphs(runs),
        dev_percent=f"{100 * study.split.dev_fraction:g}",
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _range(numbers: Iterable[int]) -> str:
    """One number for all, or from the lowest to the highest."""
    found = sorted(set(numbers))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
