"""The report: one page that stands by itself."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from many_seeds import intervals, text
from many_seeds.forest import forest
from many_seeds.results import Results
from stages.aggregate import (
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
    results,
    ridge,
    steps,
    variance,
    variants,
)
from stages.aggregate.parts import Part, Picture, Section
from stages.aggregate.runs import Runs, VariantRuns
from stages.study.comparisons import named_pairs
from stages.study.params import Params


def sections(runs: Runs, study: Params) -> list[Section]:
    """All that the study has to show, the questions first; what it lacks has no section."""
    main = main_variants(runs, study)
    compared = all_results(runs, study)
    listed = [
        Section("answers", "The questions", overview(compared)),
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


def all_results(runs: Runs, study: Params) -> Results:
    """The results of every comparison that the study names."""
    return results.results(runs, named_pairs(study), study)


def overview(compared: Results) -> list[Part]:
    """Every comparison of the study with its verdict, in one figure."""
    if not compared:
        return []
    caption = f"Is b better than a (a → b)? {text.summary(compared)}."
    return [Picture("answers", forest(compared), caption)]


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
    images, compared = len(next(iter(runs.values())).truth), all_results(runs, study)
    page = environment.get_template("report.html.j2").render(
        title=title,
        sentence=sentence,
        promise=" ".join(text.guarantee(compared)) if compared else "",
        sections=sections,
        verdicts=intervals.VERDICTS,
        data=study.data.name,
        in_2020=course.told(study),
        images=f"{images:,}",
        seeds={name: len(variant.seeds) for name, variant in runs.items()},
        spread=_range(len(variant.seeds) for variant in runs.values()),
        environments=environments.paragraphs(runs),
        dev_percent=f"{100 * study.split.dev_fraction:g}",
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _range(numbers: Iterable[int]) -> str:
    """One number for all, or from the lowest to the highest."""
    found = sorted(set(numbers))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
