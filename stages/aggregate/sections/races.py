"""The races under `races` in params.yaml: which of several variants is best?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

import many_seeds.races
from many_seeds.output.forest import MAX_ROWS, forest
from many_seeds.output.messages import counted
from many_seeds.results import Results
from stages.aggregate.report.parts import Plot, Table, number, text
from stages.aggregate.sections import results
from stages.study.params import Params
from stages.study.races import RaceState

REASONS = {
    "one left": "It has ended with one variant left.",
    "equivalent": "It has ended: all variants in it are equivalent to the winner.",
    None: "It has not ended: `make settle` adds seeds.",
}
FIXED = "Its intervals are valid at any number of seeds, wider than those of the fixed design."
NOT_ENDED_FIXED = "It has not ended; seeds are added in the open design only."


def parts(states: Sequence[RaceState], study: Params) -> list[Table]:
    """A table for each race, the first one with the guarantee of all."""
    return [_table(state, study, guarantee(states, study) if state is states[0] else "") for state in states]


def guarantee(states: Sequence[RaceState], study: Params) -> str:
    """What races guarantee; empty without races."""
    return many_seeds.races.guarantee("study", study.statistics.percent) if states else ""


def figures(states: Sequence[RaceState]) -> list[Plot]:
    """A forest plot of each race that has a leader: the leader compared with each other variant."""
    found = []
    for state in states:
        against = state.with_leader()[:MAX_ROWS]
        if against:
            compared = Results(state.score.label, state.settings, tuple(against), unit=state.score.unit)
            notes = [_note(state, result.a, result.verdict) for result in against]
            drawn = forest(compared, notes=notes, confidence="the guarantee is for the winner, not for each interval")
            caption = f"Race {state.name}: the leader (b) compared with each other variant (a)."
            numbers = " ".join(results.sentence(result, compared) for result in against)
            found.append(Plot(f"race_{state.race.name}", drawn, caption, numbers))
    return found


def headline(state: RaceState) -> str:
    """The winner, or the leader."""
    if state.standing.leader is None:
        return "No seed counts yet"
    return f"{state.standing.leader} {'wins' if state.standing.ended else 'leads'}"


def summarized(state: RaceState) -> dict[str, Any]:
    """The state of a race as JSON values."""
    standing = state.standing
    return {
        "score": state.race.score,
        "margin": state.race.margin,
        "ended": standing.ended,
        "seeds": standing.n,
        "leader": standing.leader,
        "in_race": len(standing.in_race),
        "eliminated_after": {name: out.n for name, out in standing.eliminated.items()},
    }


def _note(state: RaceState, variant: str, verdict: str) -> str:
    if out := state.standing.eliminated.get(variant):
        return f"out after {counted(out.n, 'seed')}"
    return "equivalent" if verdict == "equivalent" else "in the race"


def _table(state: RaceState, study: Params, guaranteed: str) -> Table:
    race, score = state.race, state.score
    form, scale = ("{:.2f} %", 100) if score.is_share else ("{:.4f}", 1)
    columns = [
        text("variant", "variant"),
        number("mean" if score.is_share else f"mean, {score.unit}", "mean", form, scale),
        number("seeds", "seeds"),
        text("state", "state"),
    ]
    title = f"Which is best, by {score.label}? ({race.name})"
    caption = " ".join(filter(None, [*_caption(state, study), guaranteed]))
    return Table(f"race_{race.name}", title, caption, pd.DataFrame(state.rows()), columns)


def _caption(state: RaceState, study: Params) -> list[str]:
    margin = f"{state.race.margin:g} {state.score.unit}".rstrip()
    fixed, ended = study.statistics.design == "fixed", state.standing.ended
    return [
        NOT_ENDED_FIXED if fixed and not ended else REASONS[state.standing.reason],
        f"Margin: {margin}. Each mean is over the seeds of the variant up to the last one that all in the race have.",
        FIXED if fixed else "",
        "A lower score is better." if state.settings.lower_is_better else "",
        f"Seeds are counted from seed {state.from_seed} on: earlier scores were known before."
        if state.from_seed
        else "",
        *(f"{remark}." for remark in state.remarks),
    ]
