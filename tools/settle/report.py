"""Tables and sentences about comparisons, races, seeds and durations."""

from collections.abc import Iterator, Mapping

from many_seeds.growth import Question, is_open, name_of, seeds_used
from many_seeds.output import text
from many_seeds.output.messages import counted, duration
from many_seeds.races import RaceResult
from stages.study.params import PARAMS, Params
from stages.study.races import HEADER, RaceState
from tools.settle.look import Look

LIMITS = f"--most and split.seeds of {PARAMS}"


def tables(look: Look) -> str:
    """A table of results for each score and margin, one for each race, and below them remarks, as on diverged runs."""
    found = [*map(text.table, look.groups), *map(race_table, look.races)]
    return "\n\n".join([*found, "\n".join(look.remarks)] if look.remarks else found)


def race_table(state: RaceState) -> str:
    """The variants of a race, the leader first."""
    first = f", from seed {state.from_seed} on" if state.from_seed else ""
    title = f"{state.race.name}: which is best, by {state.score.label}, margin {state.race.margin:g} {state.score.unit}"
    return f"{text.filled(f'{title.rstrip()}{first}')}\n{text.aligned(HEADER, state.cells(), left=2)}"


def summary(look: Look) -> str:
    """How many comparisons have a verdict, and how many races have ended."""
    sentences = list(_ended(look))
    if look.groups:
        sentences.insert(0, text.summary(*look.groups))
    return "; ".join(sentences)


def _ended(look: Look) -> Iterator[str]:
    if look.races:
        ended, total = sum(not is_open(state) for state in look.races), len(look.races)
        yield f"{ended} of {total} {'race has' if total == 1 else 'races have'} ended"


def conclusion(look: Look, study: Params, reasons: Mapping[str, str], added: int) -> str:
    """How many comparisons have a verdict and races an end, why the others have none, and the number of runs.

    Args:
        look: the results.
        study: the parameters of the study.
        reasons: why undecided comparisons and open races get no more seeds now, by their names; one that is left out
            has the maximum number of seeds.
        added: the number of runs that were added to params.yaml.
    """
    lines = [f"{summary(look)}. This call added {counted(added, 'run')} to {PARAMS}."]
    for results in look.groups:
        by = f", by {results.metric}" if len(look.groups) > 1 else ""
        lines += [f"undecided: {name_of(one)}{by}: {_why_open(one, reasons)}" for one in results if is_open(one)]
    lines += [f"not ended: {name_of(state)}: {_why_open(state, reasons)}" for state in look.races if is_open(state)]
    seeds = [study.recipe(name).seeds for name in look.variants]
    fixed = len(seeds) * max(seeds)
    lines.append(
        f"{sum(seeds)} runs in total; with the same number of seeds for all {len(seeds)} variants it would be {fixed}."
    )
    return "\n".join(lines)


def _why_open(one: Question, reasons: Mapping[str, str]) -> str:
    used = seeds_used(one)
    reason = reasons.get(name_of(one), f"it has the maximum of {one.from_seed + used} seeds ({LIMITS})")
    if one.seeds_projected is None:
        return f"{reason}; no {_end(one)} is projected at any number of seeds"
    return f"{reason}; {_an_end(one)} is projected after about {one.seeds_projected - used:,} more seeds"


def _end(one: Question) -> str:
    return "end" if isinstance(one, RaceResult) else "verdict"


def _an_end(one: Question) -> str:
    return "an end" if isinstance(one, RaceResult) else "a verdict"


def why_not_trained(count: int, seconds: float | None, seconds_left: float) -> str:
    """Why the next runs of a comparison are not trained.

    Args:
        count: the number of runs.
        seconds: their duration; None if it is unknown.
        seconds_left: what is left of --hours.
    """
    if seconds_left <= 0 or seconds is None:
        return "the time of --hours is used up"
    runs = f"its next {counted(count, 'run')} take{'s' if count == 1 else ''}"
    return f"{runs} {duration(seconds)}, and {duration(seconds_left)} are left"
