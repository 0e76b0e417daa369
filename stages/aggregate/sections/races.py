"""The races under `races` in params.yaml: which of several variants is best?"""

from collections.abc import Sequence

import pandas as pd

from many_seeds.ledger import Row
from stages.aggregate.report.parts import Table, number, text
from stages.aggregate.runs import Runs
from stages.study.params import Params
from stages.study.races import RaceState, named_races, race_states

GUARANTEE = (
    "Over all comparisons and races of the study together, the best variant is not eliminated and a winner is worse "
    "than the best by less than the margin, if at all, with at least {percent} confidence. The guarantee is for the "
    "winner; an elimination is no verdict on its pair."
)
REASONS = {
    "one left": "It has ended with one variant left.",
    "equivalent": "It has ended: all variants in it are equivalent to the winner.",
    None: "It has not ended: `make settle` adds seeds.",
}


def parts(runs: Runs, study: Params, ledger: Sequence[Row]) -> list[Table]:
    return [_table(state, study) for state in race_states(runs, named_races(study), study, ledger)]


def _table(state: RaceState, study: Params) -> Table:
    race, score = state.race, state.score
    form, scale = ("{:.2f} %", 100) if score.is_share else ("{:.4f}", 1)
    columns = [
        text("variant", "variant"),
        number("mean" if score.is_share else f"mean, {score.unit}", "mean", form, scale),
        number("seeds", "seeds"),
        text("state", "state"),
    ]
    title = f"Which is best, by {score.label}? ({race.name})"
    return Table(f"race_{race.name}", title, _caption(state, study), pd.DataFrame(state.rows()), columns)


def _caption(state: RaceState, study: Params) -> str:
    margin = f"{state.race.margin:g} {state.score.unit}".rstrip()
    sentences = [
        REASONS[state.standing.reason],
        f"Margin: {margin}. Each mean is over the seeds of the variant up to the last one that all in the race have.",
        "A lower score is better." if state.settings.lower_is_better else "",
        f"Seeds are counted from seed {state.from_seed} on: earlier scores were known before."
        if state.from_seed
        else "",
        *(f"{remark}." for remark in state.remarks),
        GUARANTEE.format(percent=study.statistics.percent),
    ]
    return " ".join(filter(None, sentences))
