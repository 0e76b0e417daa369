"""Compare two sides of a study: every variant that changed gets a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from many_seeds.commands import gate
from many_seeds.errors import UserError
from many_seeds.results import Results
from stages.study import params
from stages.study.comparisons import as_results, compare_evaluated, settings_of
from stages.study.params import Statistics
from stages.study.scores import ACCURACY, SCORES, Score
from tools.compare.changes import VariantChange, variant_change
from tools.compare.side import Side

SETTINGS = ("score", "confidence", "equivalence_margin", "design")  # the fields of statistics that decide a verdict
DEFAULTS = {"score": ACCURACY}  # where a side does not give them


@dataclass(frozen=True)
class Difference:
    """What differs between two sides.

    Attributes:
        old: the old side.
        new: the new side.
        settings: of the comparison.
        settings_side: the side that has these settings.
        results: a result for each changed variant, with a on the old side and b on the new side.
        changed: variants with other predictions or scores.
        unchanged: variants with the same predictions and scores.
        unpaired: variants without a common seed.
        without_score: variants with other predictions or losses whose models do not have the score of the settings.
        not_retrained: variants with the same runs although their parameters changed.
    """

    old: Side
    new: Side
    settings: Statistics
    settings_side: Side
    results: Results
    changed: dict[str, VariantChange]
    unchanged: dict[str, VariantChange]
    unpaired: dict[str, VariantChange]
    without_score: dict[str, VariantChange]
    not_retrained: dict[str, VariantChange]

    @property
    def changes(self) -> dict[str, VariantChange]:
        """All variants that both sides have."""
        return {**self.not_retrained, **self.changed, **self.unchanged, **self.unpaired, **self.without_score}

    @property
    def score(self) -> Score:
        """The score by which the sides are compared."""
        return SCORES[self.settings.score]

    @property
    def only_old(self) -> list[str]:
        return [name for name in self.old.runs if name not in self.new.runs]

    @property
    def only_new(self) -> list[str]:
        return [name for name in self.new.runs if name not in self.old.runs]

    @property
    def without_runs(self) -> list[str]:
        """Variants in params.yaml of the new side that have no runs on either side."""
        return [name for name in self.new.params.recipes if name not in self.old.runs and name not in self.new.runs]

    @property
    def complete_unchanged(self) -> list[str]:
        """The unchanged variants without lost seeds."""
        return [name for name, change in self.unchanged.items() if not change.lost]

    @property
    def other_settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings that differ: the value on the old side and the value on the new side, None if not given."""
        old, new = self.old.params.statistics, self.new.params.statistics
        defaults = (DEFAULTS.get(name) for name in SETTINGS)
        sides = {name: (old.get(name, of), new.get(name, of)) for name, of in zip(SETTINGS, defaults, strict=True)}
        return {name: values for name, values in sides.items() if values[0] != values[1]}


def compare(old: Side, new: Side, changes: int = 1) -> Difference:
    """Compare every variant that both sides have, with the settings of the old side.

    Args:
        old: the old side.
        new: the new side.
        changes: how many such comparisons hold simultaneously, as of all changes of a year.

    Raises:
        UserError: the sides have different test sets, or neither side has settings that this code can read.
    """
    settings_side, settings = _settings(old, new)
    names = ("not_retrained", "unpaired", "without_score", "unchanged", "changed")
    groups: dict[str, dict[str, VariantChange]] = {name: {} for name in names}
    for name in new.runs:
        if name in old.runs:
            change = variant_change(name, old, new)
            groups[_group(change, SCORES[settings.score], old, new)][name] = change
    confidence = gate.confidence_among(settings.confidence, changes)
    settings = settings.model_copy(update={"confidence": confidence})
    results = _results(groups["changed"], next(iter(new.runs.values())).truth, settings)
    return Difference(old=old, new=new, settings=settings, settings_side=settings_side, results=results, **groups)


def _results(changed: Mapping[str, VariantChange], truth: np.ndarray, statistics: Statistics) -> Results:
    """A result for each changed variant, at an equal share of the level: a commit is compared outside the ledger."""
    score = SCORES[statistics.score]
    settings = settings_of(statistics, score, truth, ordered=False)
    level = settings.alpha / max(len(changed), 1)
    items = [
        compare_evaluated(name, name, change.old, change.new, score=score, level=level, settings=settings)
        for name, change in changed.items()
    ]
    grouped = any(change.new.groups is not None for change in changed.values())
    return as_results(items, score, settings, len(truth), len(changed), grouped=grouped)


def _group(change: VariantChange, score: Score, old: Side, new: Side) -> str:
    """The attribute of `Difference` for a variant."""
    if not change.new.seeds:
        return "unpaired"
    if change.not_retrained:
        return "not_retrained"
    if change.unchanged_by(score):
        return "unchanged"
    recipes = [side.params.recipe(change.new.variant) for side in (old, new)]
    has_score = not score.needs_probabilities or all(recipe is None or recipe.probabilities for recipe in recipes)
    return "changed" if has_score else "without_score"


def _settings(old: Side, new: Side) -> tuple[Side, Statistics]:
    """The settings and their side: the old one, so that a change is not judged with a margin that it brings."""
    try:
        return old, Statistics.model_validate(old.params.statistics)
    except ValidationError:  # settings of another version of this code may have another meaning
        return new, _readable_settings(new)


def _readable_settings(side: Side) -> Statistics:
    """The settings of a side that this code can read; without a design, seeds may have been added.

    Raises:
        UserError: they are not valid.
    """
    given = side.params.statistics
    known = {"design": "open"} | {name: given[name] for name in Statistics.model_fields if name in given}
    try:
        return Statistics.model_validate(known)
    except ValidationError as error:
        messages = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
        raise UserError(
            f"statistics in {params.PARAMS} of {side.label} are not valid: {'; '.join(messages)}"
        ) from error
