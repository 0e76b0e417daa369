"""Train seeds step by step until every comparison has a verdict and every race has ended, or the time is used up."""

import time
from collections.abc import Mapping, Sequence

from many_seeds.commands import console
from many_seeds.growth import Step, first_affordable, total_seconds
from many_seeds.output.messages import counted, listed
from tools.settle.report import conclusion, tables, why_not_trained
from tools.settle.steps import seeds_of
from tools.settle.study import GrowingStudy
from tools.training_time import mean_seconds


def settle(growing: GrowingStudy, hours: float) -> None:
    """Add seeds until all comparisons have verdicts and races end, no more seeds are allowed, or no time is left.

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
        look, seconds = growing.look(), mean_seconds(growing.study)
        growing.record_seen()
        console.show(tables(look))
        seconds_left, steps = deadline - time.monotonic(), growing.next_steps(look, seconds)
        seeds = seeds_of(growing.study)
        possible = [step for step in steps if not growing.not_trained_here(step)]
        step = first_affordable(possible, seeds, seconds, seconds_left=seconds_left, at_once=growing.at_once)
        if step is None:
            break
        runs = step.next_runs(seeds)
        print(
            f"{step.name}: {step.n} → {counted(step.next_n, 'seed')}, {counted(sum(runs.values()), 'run')}", flush=True
        )
        growing.add_seeds(runs)
        growing.finish_runs(list(runs))
        added += sum(runs.values())
    growing.record()
    console.show(conclusion(look, growing.study, _reasons(growing, steps, seconds, seconds_left), added))


def _reasons(
    growing: GrowingStudy, steps: Sequence[Step], seconds: Mapping[str, float], seconds_left: float
) -> dict[str, str]:
    """Name of a step → why its runs are not trained."""
    reasons = {}
    for step in steps:
        if names := growing.not_trained_here(step):
            reasons[step.name] = f"this machine should add no run to {listed(names)}"
            continue
        runs = step.next_runs(seeds_of(growing.study))
        total = total_seconds(runs, seconds)
        expected = None if total is None else total / growing.at_once
        reasons[step.name] = why_not_trained(sum(runs.values()), expected, seconds_left)
    return reasons
