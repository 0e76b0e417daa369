"""What changed from one revision of a study to another, and the verdict on each variant of either."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from stages import gate, layout, params
from stages.aggregate import answers, parts
from stages.errors import StudyError
from stages.params import Statistics
from stages.revisions import Side, Trained

BY_DEFAULT = "as by default"


@dataclass(frozen=True)
class Pair:
    """One variant on both sides, cut to the seeds that both have.

    parameters: what params.yaml says differently, by name: the value on the old side and the one on the new side.
    only_old, only_new: the seeds that the other side lacks.
    """

    old: Trained
    new: Trained
    parameters: dict[str, tuple[Any, Any]]
    only_old: list[int]
    only_new: list[int]

    @property
    def same_keys(self) -> bool:
        return self.old.keys == self.new.keys

    @property
    def unchanged(self) -> bool:
        """Whether every model predicts the same; what made it may differ all the same."""
        return np.array_equal(self.old.predicted, self.new.predicted)


@dataclass(frozen=True)
class Difference:
    """All that is to be said about two sides.

    table: the answer for each variant that changed, as `answers.compared` has it.
    settings: of the new side.
    changed, unchanged, unpaired: the variants of both sides; those that are unpaired have no seed in common.
    """

    old: Side
    new: Side
    settings: Statistics
    table: pd.DataFrame
    changed: dict[str, Pair]
    unchanged: dict[str, Pair]
    unpaired: dict[str, Pair]

    @property
    def only_old(self) -> list[str]:
        return [name for name in self.old.runs if name not in self.new.runs]

    @property
    def only_new(self) -> list[str]:
        return [name for name in self.new.runs if name not in self.old.runs]

    @property
    def without_runs(self) -> list[str]:
        """Variants that a params.yaml names and neither side has trained."""
        named = {**self.new.recipes, **self.old.recipes}
        return [name for name in named if name not in self.old.runs and name not in self.new.runs]


def compare(old: Side, new: Side) -> Difference:
    """Every variant that both sides have, compared where it changed, with the settings of the new side.

    Raises:
        StudyError: the sides were evaluated on different test sets.
    """
    pairs = {name: _pair(name, old, new) for name in new.runs if name in old.runs}
    paired = {name: pair for name, pair in pairs.items() if pair.new.seeds}
    changed = {name: pair for name, pair in paired.items() if not pair.unchanged}
    settings = _settings(new)
    rows = [(name, name, pair.old.right, pair.new.right) for name, pair in changed.items()]
    return Difference(
        old=old,
        new=new,
        settings=settings,
        table=answers.compared(rows, len(rows), settings),
        changed=changed,
        unchanged={name: pair for name, pair in paired.items() if pair.unchanged},
        unpaired={name: pair for name, pair in pairs.items() if not pair.new.seeds},
    )


def findings(difference: Difference) -> list[gate.Finding]:
    """What the gate may look at: every variant of either side."""
    found = []
    for row in parts.plain_rows(difference.table):
        why = f"{points(row['difference'])}, interval {span(row)}"
        if row["verdict"] == "undecided":
            why += f"; {gate.undecided(row['n'], row['seeds_about'], row['seeds_at_most'])}"
        found.append(gate.Finding(row["b"], row["verdict"], why))
    found += [gate.Finding(name, gate.UNCHANGED, "the same predictions") for name in difference.unchanged]
    old, new = difference.old.label, difference.new.label
    for names, why in (
        (difference.unpaired, "no seed that both sides have"),
        (difference.only_old, f"only in {old}"),
        (difference.only_new, f"only in {new}"),
        (difference.without_runs, "no runs on either side"),
    ):
        found += [gate.Finding(name, gate.NOT_COMPARED, why) for name in names]
    return found


def points(difference: float) -> str:
    return f"{layout.number(difference, '{:+.3f}')} points"


def span(row: parts.Row) -> str:
    (text, _) = parts.span("interval", "low", "high", "{:+.3f}")[1](row)
    return text


def _settings(side: Side) -> Statistics:
    """The settings of a side; where it says nothing of the design, seeds may have been added."""
    known = {"design": "open"} | {
        name: side.statistics[name] for name in Statistics.model_fields if name in side.statistics
    }
    try:
        return Statistics.model_validate(known)
    except ValidationError as error:
        complaints = [f"{'.'.join(map(str, of['loc']))}: {of['msg']}" for of in error.errors()]
        raise StudyError(
            f"statistics in {params.PARAMS} of {side.label} are not valid: {'; '.join(complaints)}"
        ) from error


def _pair(variant: str, old: Side, new: Side) -> Pair:
    a, b = old.runs[variant], new.runs[variant]
    if not np.array_equal(a.truth, b.truth):
        raise StudyError(
            f"{variant} was evaluated on different test sets: on {len(a.truth):,} images of {old.data} in "
            f"{old.label}, on {len(b.truth):,} of {new.data} in {new.label}. Their scores can't be compared"
        )
    common = [seed for seed in b.seeds if seed in a.seeds]
    return Pair(
        old=a.of_seeds(common),
        new=b.of_seeds(common),
        parameters=_parameters(variant, old, new),
        only_old=[seed for seed in a.seeds if seed not in common],
        only_new=[seed for seed in b.seeds if seed not in common],
    )


def _parameters(variant: str, old: Side, new: Side) -> dict[str, tuple[Any, Any]]:
    """The parameters of a variant's runs that differ, with both values; of two families, only the family."""
    a, b = old.recipes[variant], new.recipes[variant]
    if a.get("family") != b.get("family"):
        return {"family": (a.get("family"), b.get("family"))}
    sides = {name: (a.get(name, BY_DEFAULT), b.get(name, BY_DEFAULT)) for name in {**a, **b} if name != "seeds"}
    found = {name: values for name, values in sides.items() if values[0] != values[1]}
    # A network without dev split trains on everything; what has no such field needs one always.
    if b.get("dev_split", True) and old.dev_fraction != new.dev_fraction:
        found["split.dev_fraction"] = old.dev_fraction, new.dev_fraction
    return found
