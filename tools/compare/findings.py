"""The verdict on each variant of either side, for the gate and the headline."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from many_seeds.commands import gate
from many_seeds.output import text
from many_seeds.output.messages import counted
from many_seeds.results import UNCHANGED, Result
from stages.study.params import PARAMS
from tools.compare.changes import VariantChange
from tools.compare.difference import Difference

T = TypeVar("T")

WITHOUT_RESULT = (gate.NOT_RETRAINED, gate.NOT_COMPARED, gate.REMOVED, gate.NEW)
# The verdicts in the order of the headline, the most serious first.
ORDER = (
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


def findings(difference: Difference) -> list[gate.Finding]:
    """The verdicts on all variants of either side."""
    new = difference.new.label
    found = []
    for result, form in zip(difference.results, text.number_forms(difference.results), strict=True):
        change = difference.changed[result.b]
        why = f"{_points(result, form, difference)}, interval {text.interval(result, form)}{_number_of_seeds(change)}"
        if result.verdict == "undecided":
            why += f"; {text.undecided(result)}"
        found.append(_unless_lost(gate.Finding(result.b, result.verdict, why), change, new))
    for name, change in difference.unchanged.items():
        found.append(_unless_lost(gate.Finding(name, UNCHANGED, "the same predictions"), change, new))
    return [*found, *_without_result(difference)]


def headline(difference: Difference) -> list[tuple[str, str]]:
    """Each verdict with its variants, the most serious verdict first."""
    lines: dict[str, list[str]] = {}
    for result, form in zip(difference.results, text.number_forms(difference.results), strict=True):
        seeds = _number_of_seeds(difference.changed[result.b])
        lines.setdefault(result.verdict, []).append(f"{result.b} ({_points(result, form, difference)}{seeds})")
    without = [found for found in findings(difference) if found.verdict in WITHOUT_RESULT]
    for (verdict, why), names in by_text((found.variant, (found.verdict, found.why)) for found in without).items():
        lines.setdefault(verdict, []).append(f"{', '.join(names)} ({why})")
    if unchanged := difference.complete_unchanged:
        lines[UNCHANGED] = [f"{counted(len(unchanged), 'variant')} with the same predictions ({', '.join(unchanged)})"]
    return [(verdict, ", ".join(lines[verdict])) for verdict in ORDER if verdict in lines]


def by_text(pairs: Iterable[tuple[str, T]]) -> dict[T, list[str]]:
    """Group variants with the same text.

    Args:
        pairs: variant and text.

    Returns:
        Text → variants.
    """
    found: dict[T, list[str]] = {}
    for variant, value in pairs:
        found.setdefault(value, []).append(variant)
    return found


def describe_seeds(seeds: list[int]) -> str:
    """Seeds as text: "seed 3", "seeds 3, 4"."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _points(result: Result, form: str, difference: Difference) -> str:
    return f"{text.number(result.difference, form)} {difference.score.unit}"


def _number_of_seeds(change: VariantChange) -> str:
    """ ", on 8 of 10 seeds" if the new side lacks seeds of the old side, else ""."""
    count = len(change.new.seeds)
    return f", on {count} of {count + len(change.only_old)} seeds" if change.only_old else ""


def _unless_lost(found: gate.Finding, change: VariantChange, new: str) -> gate.Finding:
    """The finding, or "not compared" if seeds are lost: they may have been left out because of their scores.

    "worse" stays: leaving out seeds does not explain it in favour of the change.
    """
    if not change.lost or found.verdict == "worse":
        return found
    are, them = ("is", "it") if len(change.lost) == 1 else ("are", "them")
    why = f"{describe_seeds(change.lost)} {are} missing in {new}, though its {PARAMS} asks for {them}"
    return gate.Finding(found.variant, gate.NOT_COMPARED, why)


def _without_result(difference: Difference) -> Iterator[gate.Finding]:
    """The findings on variants that were not compared."""
    new = difference.new
    for name, change in difference.not_retrained.items():
        yield gate.Finding(name, gate.NOT_RETRAINED, _why_not_retrained(change))
    for name in difference.unpaired:
        yield gate.Finding(name, gate.NOT_COMPARED, "no seed that both sides have")
    for name in difference.without_score:
        yield gate.Finding(name, gate.NOT_COMPARED, f"no {difference.score.label}: its outputs are not probabilities")
    for name in difference.only_old:
        if name in new.params.recipes:
            yield gate.Finding(name, gate.NOT_COMPARED, f"in {PARAMS} of {new.label}, but without runs")
        else:
            yield gate.Finding(name, gate.REMOVED, f"not in {PARAMS} of {new.label} any more")
    for name in difference.only_new:
        yield gate.Finding(name, gate.NEW, f"only in {new.label}")
    for name in difference.without_runs:
        yield gate.Finding(name, gate.NEW, "no runs yet on either side")


def _why_not_retrained(change: VariantChange) -> str:
    seeds = change.not_retrained
    runs = "runs" if seeds == change.new.seeds else f"the runs of {describe_seeds(seeds)}"
    return f"params changed, {runs} did not: run dvc repro"
