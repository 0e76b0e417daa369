"""Sentences on what differs beside the scores: settings, parameters, environments and seeds."""

from collections.abc import Iterator
from typing import Any

from stages.study.params import PARAMS, describe_changes
from stages.study.provenance.environments import kind
from stages.study.records.results import describe_diverged
from tools.compare.changes import VariantChange
from tools.compare.difference import Difference
from tools.compare.findings import by_text, describe_seeds


def settings_remarks(difference: Difference) -> list[str]:
    """Whose settings were used, if the sides have different ones."""
    old, new = difference.old.label, difference.new.label
    changes = describe_changes({name: _given(values) for name, values in difference.other_settings.items()})
    if difference.settings_side is difference.new:
        listed = f" ({changes})" if changes else ""
        return [f"the statistics of {old} are of another version of this code{listed}: judged with those of {new}"]
    return [f"{new} has other statistics ({changes}): judged with those of {old}"] if changes else []


def _given(values: tuple[Any, Any]) -> tuple[Any, Any]:
    old, new = ("not given" if value is None else value for value in values)
    return old, new


def remarks(difference: Difference) -> list[str]:
    """What neither the table nor the headline has: a line for each text, with all variants that it is about."""
    return [f"{', '.join(names)}: {text}" for text, names in by_text(_variant_remarks(difference)).items()]


def _variant_remarks(difference: Difference) -> Iterator[tuple[str, str]]:
    """Variants and remarks on them."""
    for name, change in difference.not_retrained.items():
        yield name, describe_changes(change.parameters)
    for name, change in difference.changed.items():
        yield name, "; ".join(reasons(change))
    unchanged = difference.unchanged.items()
    for name, change in unchanged:
        if not change.same_keys:
            yield name, f"{'; '.join(reasons(change))}; but the predictions are the same"
    for name, change in unchanged:
        if change.same_keys and change.training.certified:
            yield name, "; ".join(reasons(change))
    for name, change in difference.changes.items():
        for text in _seed_remarks(name, change, difference):
            yield name, text
    for name, change in difference.changed.items():
        for side, runs in ((difference.old, change.old), (difference.new, change.new)):
            if diverged := describe_diverged(runs):
                yield name, f"in {side.label}, {diverged}"


def _seed_remarks(variant: str, change: VariantChange, difference: Difference) -> Iterator[str]:
    """Which seeds only one side has, except lost ones, which the headline has."""
    if dropped := [seed for seed in change.only_old if seed not in change.lost]:
        number = difference.new.params.seeds(variant)
        asked = f", as its {PARAMS} asks for {number:,}" if number else ""
        yield f"{describe_seeds(dropped)} not in {difference.new.label} any more{asked}"
    if change.only_new:
        yield f"{describe_seeds(change.only_new)} only in {difference.new.label}"


def reasons(change: VariantChange) -> list[str]:
    """Why the runs of a variant differ, as far as it is recorded."""
    training, evaluation = change.training, change.evaluation
    possible = [
        (change.parameters, describe_changes(change.parameters)),
        (not change.same_data, "other training data"),
        (training.changes, f"another environment ({', '.join(training.changes)})"),
        (evaluation.changes, f"evaluated in another environment ({', '.join(evaluation.changes)})"),
        (change.same_keys and not change.unchanged, f"same keys, other predictions{_source(change)}"),
        (
            training.certified,
            f"another environment ({', '.join(training.certified)}), certified to give the same bits",
        ),
    ]
    found = [text for applies, text in possible if applies]
    if found:
        return found
    if training.recorded:
        return ["the same parameters, data and environment, so another validation split, or edited"]
    return ["the same parameters and data, so other code or library versions"]


def _source(change: VariantChange) -> str:
    """What may have caused other predictions under the same keys."""
    old, new = change.processors
    kinds = [{kind(processor) for processor in side} for side in (old, new)]
    if not all(kinds):
        return ": perhaps on another kind of processor (not recorded), or edited"
    if kinds[0] == kinds[1]:
        return f", on the same kind of processor ({', '.join(new)}): edited, or not made as recorded"
    return f": made on another kind of processor ({', '.join(old)} → {', '.join(new)})"
