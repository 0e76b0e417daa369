"""Train seeds step by step until every comparison has a verdict or the time is used up."""

import time
from collections.abc import Mapping, Sequence

from many_seeds.results import Pair
from tools.settle.report import all_of, conclusion, pair_name, tables, why_not_trained
from tools.settle.steps import Step, total_seconds
from tools.settle.study import GrowingStudy, mean_seconds


def settle(growing: GrowingStudy, hours: float) -> None:
    """Add seeds until every comparison has a verdict, the maximum number of seeds, or no time left; print the results.

    Args:
        growing: the study.
        hours: the time budget.

    Raises:
        UserError: a run fails, a file is damaged, or params.yaml is edited meanwhile.
    """
    deadline, added = time.monotonic() + 3600 * hours, 0
    growing.enter_comparisons()
    growing.finish_runs(growing.variants)
    while True:
        groups, seconds = growing.look(), mean_seconds(growing.study)
        growing.record_seen()
        print(tables(groups), flush=True)
        seconds_left, steps = deadline - time.monotonic(), growing.next_steps(all_of(groups), seconds)
        step = _affordable(growing, steps, seconds, seconds_left)
        if step is None:
            break
        runs = step.next_runs(growing.study)
        print(f"{pair_name(step.pair)}: {step.n} → {step.next_n} seeds, {sum(runs.values())} runs", flush=True)
        growing.add_seeds(runs)
        growing.finish_runs(list(runs))
        added += sum(runs.values())
    growing.record()
    print(conclusion(groups, growing.study, _reasons(growing, steps, seconds, seconds_left), added))


def _affordable(
    growing: GrowingStudy, steps: Sequence[Step], seconds: Mapping[str, float], seconds_left: float
) -> Step | None:
    """The first step that is expected to end in time, or None; any time is enough for a step of unknown duration."""
    for step in steps:
        expected = total_seconds(step.next_runs(growing.study), seconds) or 0.0
        if 0 < seconds_left >= expected / growing.at_once:
            return step
    return None


def _reasons(
    growing: GrowingStudy, steps: Sequence[Step], seconds: Mapping[str, float], seconds_left: float
) -> dict[Pair, str]:
    """Pair → why the next runs of its comparison are not trained."""
    reasons = {}
    for step in steps:
        runs = step.next_runs(growing.study)
        total = total_seconds(runs, seconds)
        expected = None if total is None else total / growing.at_once
        reasons[step.pair] = why_not_trained(sum(runs.values()), expected, seconds_left)
    return reasons
