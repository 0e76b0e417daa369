"""The results of a study in MLflow: Markdown for descriptions, and tags for the runs of its variants."""

from collections.abc import Sequence
from typing import Any

from many_seeds.output import text
from many_seeds.results import Result, Results
from stages.study import files, paths
from stages.study.comparisons import compare_named, named_comparisons
from stages.study.params import Params
from stages.study.races import HEADER, RaceState, named_races, race_states
from stages.study.records.ledger_files import read_ledger
from stages.study.records.results import read_results

RESULT = "result"  # tag of a variant's run: its test accuracy
COMPARED = "vs "  # tag of a variant's run, followed by the variant that it is compared with: the verdict
DESCRIPTION_LIMIT = 4500  # characters: experiments of MLflow 2 take tags of 5,000
NO_COMPARISONS = "The study names no comparisons and no races."
SHOWN = (0, 1, 2, 3, 4, 5, 7)  # columns: a, b, verdict, difference, interval, n, and the verdict for new images
ELSEWHERE = "All columns are in `report.html` of the run `study`."
TOO_LONG = "The table is too long for a description: see `report.html` and `tables` of the run `study`."


def compared(study: Params) -> tuple[list[Results], list[RaceState]]:
    """The results of all comparisons of the study, for each score and margin, and the states of its races."""
    named, raced = named_comparisons(study), named_races(study)
    together = [*(comparison.pair for comparison in named), *(race.variants for race in raced)]
    names = [name for variants in together for name in variants]
    runs, ledger = {name: read_results(name) for name in dict.fromkeys(names)}, read_ledger()
    return compare_named(runs, named, study, ledger), race_states(runs, raced, study, ledger)


def description(study: Params, groups: Sequence[Results], raced: Sequence[RaceState]) -> str:
    """The results in Markdown: the served model, the approaches, the comparisons and the races.

    Tables that would exceed `DESCRIPTION_LIMIT` are replaced by a summary.

    Args:
        study: the content of params.yaml.
        groups: the comparisons of `compared`.
        raced: its races.
    """
    parts = [_served_model(), _approaches(study), *map(_comparisons, groups), *map(_race, raced)]
    if not groups and not raced:
        return "\n\n".join([*parts, NO_COMPARISONS])
    guarantee = text.guarantee(*groups) if groups else []
    whole = "\n\n".join([*parts, ELSEWHERE, *guarantee])
    if len(whole) <= DESCRIPTION_LIMIT:
        return whole
    summary = [f"## {text.summary(*groups)}"] if groups else []
    return "\n\n".join([parts[0], *summary, TOO_LONG, *guarantee, *(f"{state.sentence}." for state in raced)])


def tags(study: Params, groups: Sequence[Results]) -> dict[str, dict[str, str]]:
    """The tags of each variant's run: its accuracy, and each comparison with the variant before it.

    Args:
        study: the content of params.yaml.
        groups: the comparisons of `compared`.
    """
    summary = files.read_json(paths.SUMMARY)
    found = {variant: {RESULT: _accuracy(summary[variant])} for variant in study.variants}
    for group in groups:
        of_score = "" if group.metric == groups[0].metric else f", {group.metric}"
        for result, form in zip(group, text.number_forms(group), strict=True):
            found[result.b][f"{COMPARED}{result.a}{of_score}"] = _sentence(result, form, group.unit)
    return found


def is_result(tag: str) -> bool:
    """Whether a tag of a variant's run is one of `tags`."""
    return tag == RESULT or tag.startswith(COMPARED)


def _served_model() -> str:
    champion = files.read_json(paths.CHAMPION)
    if champion is None:
        return "**Served model**: none, as no approach has a validation split and a run that did not diverge."
    return (
        f"**Served model**: {champion['approach']} ({champion['variant']}, seed {champion['seed']}), chosen by this "
        f"rule: {champion['rule']}."
    )


def _approaches(study: Params) -> str:
    summary = files.read_json(paths.SUMMARY)
    rows = [
        [approach, variant, _accuracy(summary[variant]), f"{summary[variant]['ensemble_accuracy']:.4f}"]
        for approach, variant in study.approaches.items()
    ]
    return f"## Approaches\n\n{text.markdown(['approach', 'variant', 'test accuracy', 'ensemble'], rows)}"


def _comparisons(group: Results) -> str:
    """A table of the comparisons of one score and margin."""
    header = text.header(group)
    shown = [column for column in SHOWN if column < len(header)]
    rows = [[row[column][0] for column in shown] for row in text.rows(group)]
    table = text.markdown([header[column] for column in shown], rows)
    return "\n\n".join(filter(None, [f"## {text.summary(group)}", table, text.bullets(group.remarks)]))


def _race(state: RaceState) -> str:
    return f"## {text.escaped(state.sentence)}\n\n{text.markdown(HEADER, state.cells())}"


def _accuracy(of: dict[str, Any]) -> str:
    """The mean test accuracy in summary.json, with its interval: "0.9764 (0.9690 … 0.9838), n = 8"."""
    accuracy = of["test_accuracy"]
    interval = f" ({accuracy['ci_low']:.4f} … {accuracy['ci_high']:.4f})" if "ci_low" in accuracy else ""
    return f"{accuracy['mean']:.4f}{interval}, n = {of['seeds']}"


def _sentence(result: Result, form: str, unit: str) -> str:
    """A result in a few words: "better, +3.89 (+2.46 … +5.32), n = 8, percentage points"."""
    if not result.n:
        return "undecided, without a seed"
    numbers = f"{text.number(result.difference, form)} ({text.interval(result, form)}), n = {result.n}"
    return f"{text.verdict(result)}, {numbers}{f', {unit}' if unit else ''}"
