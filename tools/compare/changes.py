"""What changed in the runs of one variant from the old side to the new side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.study import params
from stages.study.provenance.environments import Environment, Part, canonical
from stages.study.records.results import NOT_RECORDED, EvaluatedRuns
from stages.study.scores import Score
from tools.compare.side import Side

DEFAULT = "as by default"  # in place of a field that a recipe does not have

Changed = dict[str, tuple[Any, Any]]  # name → value on the old side and value on the new side


@dataclass(frozen=True)
class EnvironmentChange:
    """How the environments that trained or evaluated the runs of a variant differ.

    Attributes:
        recorded: whether both sides have recorded their environments.
        changes: differences such as "keras 3.15.1 → 3.15.2" that are not certified to give the same bits.
        certified: differences that are certified to give the same bits.
    """

    recorded: bool
    changes: list[str]
    certified: list[str]


@dataclass(frozen=True)
class VariantChange:
    """The runs of a variant on both sides, for the seeds that both sides have.

    Attributes:
        old: runs of the old side.
        new: runs of the new side.
        parameters: the changed parameters, by name.
        training: how the environments of training differ.
        evaluation: how the environments of evaluation differ.
        only_old: seeds that the new side lacks.
        only_new: seeds that the old side lacks.
        lost: seeds in params.yaml of the new side without a run, except those that were without a run on the old side.
    """

    old: EvaluatedRuns
    new: EvaluatedRuns
    parameters: Changed
    training: EnvironmentChange
    evaluation: EnvironmentChange
    only_old: list[int]
    only_new: list[int]
    lost: list[int]

    @property
    def same_keys(self) -> bool:
        return self.old.keys == self.new.keys

    @property
    def same_data(self) -> bool:
        return self.old.data == self.new.data

    @property
    def unchanged(self) -> bool:
        """Whether every model has the same predictions; keys and environments may differ."""
        return np.array_equal(self.old.predicted, self.new.predicted)

    def unchanged_by(self, score: Score) -> bool:
        """Whether every model has the same predictions, and the same value of a score that is no function of them."""
        same_score = score.of_labels is not None or np.array_equal(score.values(self.old), score.values(self.new))
        return self.unchanged and same_score

    @property
    def processors(self) -> tuple[list[str], list[str]]:
        """The recorded processors, on the old and the new side, of the runs whose predictions differ."""
        differs = (self.old.predicted != self.new.predicted).any(axis=1)
        return _processors(self.old, differs), _processors(self.new, differs)

    @property
    def not_retrained(self) -> list[int]:
        """The seeds whose run is the same although its parameters changed."""
        if not self.parameters:
            return []
        keys = zip(self.new.seeds, self.old.keys, self.new.keys, strict=True)
        return [seed for seed, old, new in keys if old == new]


def _processors(runs: EvaluatedRuns, selected: np.ndarray) -> list[str]:
    if runs.environments is None:
        return []
    return sorted({*runs.environments["processor"][selected]} - {NOT_RECORDED})


def variant_change(variant: str, old: Side, new: Side) -> VariantChange:
    """What changed in the runs of a variant.

    Args:
        variant: a variant with runs on both sides.
        old: the old side.
        new: the new side.

    Raises:
        UserError: the sides have different test sets.
    """
    before, after = old.runs[variant], new.runs[variant]
    if not before.same_test_set(after):
        raise UserError(
            f"{variant} should have the same test set on both sides; received {len(before.truth):,} images of "
            f"{old.params.data_name} in {old.label} and {len(after.truth):,} of {new.params.data_name} in {new.label}, "
            "of which pixels or labels differ: scores on different test sets can't be compared"
        )
    seeds = _judged_seeds(after.seeds, new.params.seeds(variant))
    common = [seed for seed in seeds if seed in before.seeds]
    certificates = pd.concat([old.certificates, new.certificates], ignore_index=True)
    kept = before.select(common), after.select(common)
    identity = new.params.identity(variant)
    if identity != old.params.identity(variant):
        identity = None
    return VariantChange(
        *kept,
        parameters=_changed_parameters(variant, old, new),
        training=_environment_change("train", identity, *kept, certificates),
        evaluation=_environment_change("evaluate", identity, *kept, certificates),
        only_old=[seed for seed in before.seeds if seed not in common],
        only_new=[seed for seed in seeds if seed not in common],
        lost=_lost_seeds(variant, old, new),
    )


def _judged_seeds(seeds: list[int], number: int) -> list[int]:
    """The seeds with runs that params.yaml has: other runs may have been selected by their scores."""
    return [seed for seed in seeds if not number or seed < number]


def _environment_change(
    part: Part, identity: str | None, old: EvaluatedRuns, new: EvaluatedRuns, certificates: pd.DataFrame
) -> EnvironmentChange:
    """How the environments of the same seeds differ; certificates count if both sides have the same identity."""
    column = {"train": "environment", "evaluate": "evaluation"}[part]
    if old.environments is None or new.environments is None:
        return EnvironmentChange(recorded=False, changes=[], certified=[])
    changes, certified = dict[str, None](), dict[str, None]()
    for texts in dict.fromkeys(zip(old.environments[column], new.environments[column], strict=True)):
        before, after = map(Environment.parse, texts)
        resolved = [before, after]
        if identity is not None:
            resolved = [canonical(identity, part, each, certificates) for each in resolved]
        found = certified if resolved[0] == resolved[1] else changes
        found |= dict.fromkeys(before.differences(after, part))
    return EnvironmentChange(recorded=True, changes=list(changes), certified=list(certified))


def _lost_seeds(variant: str, old: Side, new: Side) -> list[int]:
    before, after = old.runs[variant].seeds, new.runs[variant].seeds
    missing = [seed for seed in range(new.params.seeds(variant)) if seed not in after]
    return [seed for seed in missing if seed in before or seed >= old.params.seeds(variant)]


def _changed_parameters(variant: str, old: Side, new: Side) -> Changed:
    """The changed parameters that decide the runs of a variant."""
    before, after = old.params.recipe(variant), new.params.recipe(variant)
    if before is not None and after is not None:
        found, uses_validation = params.differences(before, after), after.uses_validation
    else:
        fields = new.params.recipes[variant]
        found = _changed_fields(old.params.recipes[variant], fields)
        # A network without a validation split trains on all images; a recipe without this field always needs one.
        uses_validation = fields.get("dev_split", True)
    if old.params.data_name != new.params.data_name:
        found["data.name"] = old.params.data_name, new.params.data_name
    if uses_validation and old.params.dev_fraction != new.params.dev_fraction:
        found["split.dev_fraction"] = old.params.dev_fraction, new.params.dev_fraction
    return found


def _changed_fields(old: dict[str, Any], new: dict[str, Any]) -> Changed:
    """The result of `params.differences` for recipes that this version of the code can't read."""
    if old.get("family") != new.get("family"):
        return {"family": (old.get("family"), new.get("family"))}
    sides = {name: (old.get(name, DEFAULT), new.get(name, DEFAULT)) for name in {**old, **new} if name != "seeds"}
    return {name: values for name, values in sides.items() if values[0] != values[1]}
