"""What changed from one revision of a study to another, and the verdict on each variant of either."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from many_seeds import gate, intervals, text
from many_seeds.errors import UserError
from many_seeds.results import UNCHANGED, Result, Results
from stages.study import params
from stages.study.comparisons import compare_accuracies
from stages.study.environments import Environment, Part, canonical
from stages.study.params import Statistics
from stages.study.results import NOT_RECORDED, EvaluatedRuns
from tools.compare.revisions import Side

T = TypeVar("T")

BY_DEFAULT = "as by default"
JUDGING = ("confidence", "equivalence_margin", "design")  # what of the statistics decides a verdict here


@dataclass(frozen=True)
class Environments:
    """How what trained a variant's runs, or what evaluated them, differs between two sides.

    Attributes:
        recorded: whether both sides say what it was.
        changes: what differs, such as "keras 3.15.1 → 3.15.2", and is not certified to give the same bits.
        certified: what differs, and is certified to give the same bits.
    """

    recorded: bool
    changes: list[str]
    certified: list[str]


@dataclass(frozen=True)
class Pair:
    """One variant on both sides, cut to the seeds that both have.

    parameters: what params.yaml says differently, by name: the value on the old side and the one on the new side.
    training, evaluation: how the environments of the runs differ.
    only_old, only_new: the seeds that the other side lacks.
    lost: that params.yaml of the new side asks for without a run to show, unless the old side did so too.
    """

    old: EvaluatedRuns
    new: EvaluatedRuns
    parameters: dict[str, tuple[Any, Any]]
    training: Environments
    evaluation: Environments
    only_old: list[int]
    only_new: list[int]
    lost: list[int]

    @property
    def same_keys(self) -> bool:
        return self.old.keys == self.new.keys

    @property
    def unchanged(self) -> bool:
        """Whether every model predicts the same; what made it may differ all the same."""
        return np.array_equal(self.old.predicted, self.new.predicted)

    @property
    def processors(self) -> tuple[list[str], list[str]]:
        """The recorded processors of the old and of the new side's runs that predict something else."""
        other = (self.old.predicted != self.new.predicted).any(axis=1)
        tables = [side.environments for side in (self.old, self.new)]
        old, new = ([] if table is None else sorted({*table["processor"][other]} - {NOT_RECORDED}) for table in tables)
        return old, new

    @property
    def not_retrained(self) -> list[int]:
        """The seeds whose run is the same one, though what decides it is said to be something else."""
        if not self.parameters:
            return []
        return [seed for seed, a, b in zip(self.new.seeds, self.old.keys, self.new.keys, strict=True) if a == b]

    @property
    def some_seeds(self) -> str:
        """ ", on 8 of 10 seeds" where the new side has fewer of them; else nothing."""
        count = len(self.new.seeds)
        return f", on {count} of {count + len(self.only_old)} seeds" if self.only_old else ""


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides.

    Attributes:
        old: the older side.
        new: the newer side.
        settings: with which the variants were compared.
        judge: the side that they are of.
        results: of each variant that changed, a on the old side, b on the new one.
        changed: the variants of both sides that predict something else.
        unchanged: those that predict the same.
        unpaired: those without a common seed.
        not_retrained: those whose runs are the same though their parameters differ.
    """

    old: Side
    new: Side
    settings: Statistics
    judge: Side
    results: Results
    changed: dict[str, Pair]
    unchanged: dict[str, Pair]
    unpaired: dict[str, Pair]
    not_retrained: dict[str, Pair]

    @property
    def pairs(self) -> dict[str, Pair]:
        return {**self.not_retrained, **self.changed, **self.unchanged, **self.unpaired}

    @property
    def only_old(self) -> list[str]:
        return [name for name in self.old.runs if name not in self.new.runs]

    @property
    def only_new(self) -> list[str]:
        return [name for name in self.new.runs if name not in self.old.runs]

    @property
    def without_runs(self) -> list[str]:
        """Variants that the new side has a recipe of, and neither side runs."""
        return [name for name in self.new.recipes if name not in self.old.runs and name not in self.new.runs]

    @property
    def other_settings(self) -> dict[str, tuple[Any, Any]]:
        """What decides a verdict and differs: the value on the old side and the one on the new side, None for none."""
        sides = {name: (self.old.statistics.get(name), self.new.statistics.get(name)) for name in JUDGING}
        return {name: values for name, values in sides.items() if values[0] != values[1]}


def compare(old: Side, new: Side) -> Difference:
    """Every variant that both sides have, compared where it changed, with the settings that stood before the change.

    Raises:
        UserError: the sides were evaluated on different test sets, or neither has settings that this code can read.
    """
    groups: dict[str, dict[str, Pair]] = {"not_retrained": {}, "unpaired": {}, "unchanged": {}, "changed": {}}
    for name in new.runs:
        if name in old.runs:
            pair = _pair(name, old, new)
            groups[_group(pair)][name] = pair
    judge, settings = _judge(old, new)
    rows = [(name, name, pair.old.accuracy, pair.new.accuracy) for name, pair in groups["changed"].items()]
    images = len(next(iter(new.runs.values())).truth)
    results = compare_accuracies(rows, images, len(rows), settings)
    return Difference(old=old, new=new, settings=settings, judge=judge, results=results, **groups)


def findings(difference: Difference) -> list[gate.Finding]:
    """The verdict on every variant of either side."""
    found = []
    for result, form in zip(difference.results, text.number_forms(difference.results), strict=True):
        pair = difference.changed[result.b]
        why = f"{_points(result, form)}, interval {text.interval(result, form)}{pair.some_seeds}"
        if result.verdict == "undecided":
            why += f"; {text.undecided(result)}"
        found.append(_unless_lost(gate.Finding(result.b, result.verdict, why), pair, difference.new.label))
    for name, pair in difference.unchanged.items():
        same = gate.Finding(name, UNCHANGED, "the same predictions")
        found.append(_unless_lost(same, pair, difference.new.label))
    return [*found, *_without_answer(difference)]


def headline(difference: Difference) -> list[tuple[str, str]]:
    """Each verdict that there is, the gravest first, and in words the variants that have it."""
    said: dict[str, list[str]] = {}
    for result, form in zip(difference.results, text.number_forms(difference.results), strict=True):
        words = f"{result.b} ({_points(result, form)}{difference.changed[result.b].some_seeds})"
        said.setdefault(result.verdict, []).append(words)
    shown = (gate.NOT_RETRAINED, gate.NOT_COMPARED, gate.REMOVED, gate.NEW)
    others = [(found.variant, (found.verdict, found.why)) for found in findings(difference) if found.verdict in shown]
    for (verdict, why), names in alike(others).items():
        said.setdefault(verdict, []).append(f"{', '.join(names)} ({why})")
    if count := len(without_change(difference)):
        said[UNCHANGED] = [f"{count:,} {'variant' if count == 1 else 'variants'}, with the same predictions"]
    order = (
        gate.NOT_RETRAINED,
        "worse",
        gate.NOT_COMPARED,
        "undecided",
        "better",
        "equivalent",
        gate.REMOVED,
        gate.NEW,
        UNCHANGED,
    )
    return [(verdict, ", ".join(said[verdict])) for verdict in order if verdict in said]


def without_change(difference: Difference) -> list[str]:
    """The variants of which every model is there and predicts the same."""
    return [name for name, pair in difference.unchanged.items() if not pair.lost]


def alike(said: Iterable[tuple[str, T]]) -> dict[T, list[str]]:
    """What is said of variants, and all of which it is said: so it is said once."""
    found: dict[T, list[str]] = {}
    for variant, what in said:
        found.setdefault(what, []).append(variant)
    return found


def _points(result: Result, form: str) -> str:
    return f"{text.number(result.difference, form)} percentage points"


def image_error(pair: Pair) -> float:
    """1.96 standard errors of the difference over the test images, in percentage points."""
    return intervals.image_error(pair.new.correct.mean(axis=0) - pair.old.correct.mean(axis=0))


def describe_seeds(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _unless_lost(found: gate.Finding, pair: Pair, new: str) -> gate.Finding:
    """The finding, but for a variant that lost seeds, of which only "worse" is believed: others may be chosen."""
    if not pair.lost or found.verdict == "worse":
        return found
    are, them = ("is", "it") if len(pair.lost) == 1 else ("are", "them")
    why = f"{describe_seeds(pair.lost)} {are} missing in {new}, though its {params.PARAMS} asks for {them}"
    return gate.Finding(found.variant, gate.NOT_COMPARED, why)


def _without_answer(difference: Difference) -> Iterator[gate.Finding]:
    new = difference.new
    for name, pair in difference.not_retrained.items():
        same = pair.not_retrained
        runs = "runs" if same == pair.new.seeds else f"the runs of {describe_seeds(same)}"
        yield gate.Finding(name, gate.NOT_RETRAINED, f"params changed, {runs} did not: run dvc repro")
    for name in difference.unpaired:
        yield gate.Finding(name, gate.NOT_COMPARED, "no seed that both sides have")
    for name in difference.only_old:
        if name in new.recipes:
            yield gate.Finding(name, gate.NOT_COMPARED, f"in {params.PARAMS} of {new.label}, but without runs")
        else:
            yield gate.Finding(name, gate.REMOVED, f"not in {params.PARAMS} of {new.label} any more")
    for name in difference.only_new:
        yield gate.Finding(name, gate.NEW, f"only in {new.label}")
    for name in difference.without_runs:
        yield gate.Finding(name, gate.NEW, "no runs yet on either side")


def _judge(old: Side, new: Side) -> tuple[Side, Statistics]:
    """The side whose settings count, and these: the old one's, or a change could bring the margin that it needs."""
    try:
        return old, Statistics.model_validate(old.statistics)
    except ValidationError:  # of another version of this code, where the same word may mean something else
        return new, _settings(new)


def _settings(side: Side) -> Statistics:
    """The settings of a side; where it says nothing of the design, seeds may have been added."""
    known = {"design": "open"} | {
        name: side.statistics[name] for name in Statistics.model_fields if name in side.statistics
    }
    try:
        return Statistics.model_validate(known)
    except ValidationError as error:
        complaints = [f"{'.'.join(map(str, of['loc']))}: {of['msg']}" for of in error.errors()]
        raise UserError(
            f"statistics in {params.PARAMS} of {side.label} are not valid: {'; '.join(complaints)}"
        ) from error


def _group(pair: Pair) -> str:
    if not pair.new.seeds:
        return "unpaired"
    if pair.not_retrained:
        return "not_retrained"
    return "unchanged" if pair.unchanged else "changed"


def _pair(variant: str, old: Side, new: Side) -> Pair:
    a, b = old.runs[variant], new.runs[variant]
    if not np.array_equal(a.truth, b.truth):
        raise UserError(
            f"{variant} was evaluated on different test sets: on {len(a.truth):,} images of {old.data} in "
            f"{old.label}, on {len(b.truth):,} of {new.data} in {new.label}. Their scores can't be compared"
        )
    asked = new.seeds(variant)
    # Runs beyond what is asked for may be the ones that came out well.
    there = [seed for seed in b.seeds if not asked or seed < asked]
    common = [seed for seed in there if seed in a.seeds]
    only_old = [seed for seed in a.seeds if seed not in common]
    a, b = a.select(common), b.select(common)
    certificates = pd.concat([old.certificates, new.certificates], ignore_index=True)
    return Pair(
        old=a,
        new=b,
        parameters=_parameters(variant, old, new),
        training=_environments(variant, "train", a, b, certificates),
        evaluation=_environments(variant, "evaluate", a, b, certificates),
        only_old=only_old,
        only_new=[seed for seed in there if seed not in common],
        lost=_lost(variant, old, new),
    )


def _environments(
    variant: str, part: Part, a: EvaluatedRuns, b: EvaluatedRuns, certificates: pd.DataFrame
) -> Environments:
    """How the environments differ that made the same seeds on two sides."""
    column = {"train": "environment", "evaluate": "evaluation"}[part]
    if a.environments is None or b.environments is None:
        return Environments(recorded=False, changes=[], certified=[])
    changes, certified = dict[str, None](), dict[str, None]()
    for texts in dict.fromkeys(zip(a.environments[column], b.environments[column], strict=True)):
        old, new = map(Environment.parse, texts)
        same = canonical(variant, part, old, certificates) == canonical(variant, part, new, certificates)
        (certified if same else changes).update(dict.fromkeys(old.differences(new, part)))
    return Environments(recorded=True, changes=list(changes), certified=list(certified))


def _lost(variant: str, old: Side, new: Side) -> list[int]:
    """The seeds that the new side asks for without a run to show, but for those that the old side lacked too."""
    a, b = old.runs[variant].seeds, new.runs[variant].seeds
    wanted = [seed for seed in range(new.seeds(variant)) if seed not in b]
    return [seed for seed in wanted if seed in a or seed >= old.seeds(variant)]


def _parameters(variant: str, old: Side, new: Side) -> dict[str, tuple[Any, Any]]:
    """The parameters of a variant's runs that differ, with both values."""
    a, b = old.recipe(variant), new.recipe(variant)
    if a is not None and b is not None:
        found, uses_validation = params.differences(a, b), b.uses_validation
    else:
        found = _fields(old.recipes[variant], new.recipes[variant])
        # A network without dev split trains on everything; what has no such field needs one always.
        uses_validation = new.recipes[variant].get("dev_split", True)
    if old.data != new.data:
        found["data.name"] = old.data, new.data
    if uses_validation and old.dev_fraction != new.dev_fraction:
        found["split.dev_fraction"] = old.dev_fraction, new.dev_fraction
    return found


def _fields(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """As `params.differences`, of recipes that this version of the code can't read."""
    if a.get("family") != b.get("family"):
        return {"family": (a.get("family"), b.get("family"))}
    sides = {name: (a.get(name, BY_DEFAULT), b.get(name, BY_DEFAULT)) for name in {**a, **b} if name != "seeds"}
    return {name: values for name, values in sides.items() if values[0] != values[1]}
