"""The plan of `--plan`: what would be trained, for how long, and when verdicts are projected."""

from collections.abc import Iterator, Mapping, Sequence

from many_seeds.growth import Step, is_open, longest_open, missing_runs, total_seconds
from stages.study.params import PARAMS
from tools.settle.look import Look
from tools.settle.report import LIMITS, projection, summary, tables
from tools.settle.steps import seeds_of
from tools.settle.study import GrowingStudy, mean_seconds


def plan(growing: GrowingStudy) -> str:
    """The results, and for each undecided comparison and open race the next runs, their duration and projected end.

    Raises:
        UserError: the results of a variant are missing or damaged.
    """
    if obstacle := _obstacle(growing):
        return obstacle
    look, seconds = growing.look(), mean_seconds(growing.study)
    steps = growing.next_steps(look, seconds)
    if not steps:
        return f"{tables(look)}\n\n{_nothing_to_add(look)}"
    return "\n".join([tables(look), "", *_step_lines(growing, look, steps, seconds)])


def _obstacle(growing: GrowingStudy) -> str | None:
    """What to do before a plan can be made, or None."""
    if growing.data_are_stale():
        return f"The data are not those of {PARAMS}: run `dvc repro split` before --plan"
    if objections := growing.objections():
        return "\n".join(["No seed would be added:", *objections])
    if outdated := growing.outdated():
        return (
            f"Results are missing, or of other parameters or data: {', '.join(outdated)}. Run the command without "
            f"--plan to train the seeds of {PARAMS} first"
        )
    return None


def _nothing_to_add(look: Look) -> str:
    undecided = sum(map(is_open, look))
    remark = f"; {undecided} undecided with the maximum number of seeds ({LIMITS})" if undecided else ""
    return f"{summary(look)}{remark}"


def _step_lines(
    growing: GrowingStudy, look: Look, steps: Sequence[Step], seconds: Mapping[str, float]
) -> Iterator[str]:
    present, unfinished = seeds_of(growing.study), longest_open(look)
    seeds: dict[str, int] = {}  # of each variant after the steps up to this one: comparisons share variants
    for step in steps:
        seeds |= {name: max(step.final_n, seeds.get(name, 0)) for name in step.variants}
        durations = [
            _duration(growing, runs, seconds) for runs in (step.all_runs(present), missing_runs(seeds, present))
        ]
        runs = ", ".join(f"{count} of {name}" for name, count in step.next_runs(present).items()) or "none"
        yield (
            f"{step.name}: next {step.n} → {step.next_n} seeds, runs: {runs}; "
            f"{projection(unfinished[step.name], step.final_n, *durations)}"
        )


def _duration(growing: GrowingStudy, runs: Mapping[str, int], seconds: Mapping[str, float]) -> float | None:
    """The duration of runs on this machine, in seconds; None if it is unknown."""
    total = total_seconds(runs, seconds)
    return None if total is None else total / growing.at_once
