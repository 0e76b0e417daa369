"""The plan of `--plan`: what would be trained, for how long, and when verdicts are projected."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from many_seeds.growth import Question, Step, is_open, longest_open, missing_runs, name_of
from many_seeds.output import text
from many_seeds.output.messages import duration
from stages.study import paths
from stages.study.params import PARAMS
from stages.study.records.data_summary import read_summary
from tools import training_time
from tools.settle.look import Look
from tools.settle.report import LIMITS, summary
from tools.settle.steps import seeds_of
from tools.settle.study import GrowingStudy

HEADER = ["comparison or race", "seeds", "runs", "time", "verdict at seeds", "time until then", "with those above"]
ABOUT = "≈"  # before durations with an estimate


@dataclass(frozen=True)
class Durations:
    """How long runs take on this machine.

    Attributes:
        seconds: variant → the duration of a run.
        measured: the variants whose duration is not an estimate.
        at_once: the number of runs that are trained at a time.
    """

    seconds: Mapping[str, float]
    measured: Collection[str]
    at_once: int

    def of(self, runs: Mapping[str, int]) -> str:
        """The duration of runs as text.

        Args:
            runs: variant → the number of runs.
        """
        total = sum(count * self.seconds[name] for name, count in runs.items())
        about = "" if runs.keys() <= set(self.measured) else ABOUT
        return f"{about}{duration(total / self.at_once)}"


def plan(growing: GrowingStudy) -> str:
    """For each undecided comparison and open race the next runs, their duration, and when it is projected to end.

    Raises:
        UserError: the results of a variant are missing or damaged.
    """
    with ThreadPoolExecutor(1) as pool:
        planned = pool.submit(_planned, growing)  # while DVC takes its seconds
        if growing.data_are_stale():
            return f"The data are not those of {PARAMS}: run `dvc repro split` before --plan"
    return planned.result()


def _planned(growing: GrowingStudy) -> str:
    """The plan, unless the data are stale; or what to do first."""
    if obstacle := _obstacle(growing):
        return obstacle
    look, measured = growing.look(), training_time.mean_seconds(growing.study)
    every = growing.next_steps(look, measured)
    steps = [step for step in every if not growing.not_trained_here(step)]
    elsewhere = [f"Left out: {objection}" for objection in growing.left_out.values()] if every != steps else []
    if not steps:
        return "\n\n".join([_nothing_to_add(look, every), *elsewhere])
    expected = training_time.expected_seconds(growing.study, _images_shape(growing))
    durations = Durations(expected, measured, growing.at_once)
    unfinished = longest_open(look)
    cells = list(rows(steps, unfinished, seeds_of(growing.study), durations))
    title = f"{summary(look)}. What would be trained, in this order:"
    notes = [*_notes(cells, durations), *elsewhere, *look.remarks]
    if any(_is_beyond(one, growing.most) for one in unfinished.values()):
        end = f"the time until a later verdict is that until {growing.most}"
        notes.append(f"At most {growing.most} seeds are trained ({LIMITS}): {end}.")
    table = text.fitting(text.aligned(HEADER, cells), HEADER, cells)
    return "\n\n".join([title, table, "\n".join(notes)])


def _obstacle(growing: GrowingStudy) -> str | None:
    """What to do before a plan can be made, or None."""
    if objections := growing.objections():
        return "\n".join(["No seed would be added:", *objections])
    if outdated := growing.outdated():
        return (
            f"Results are missing, or of other parameters or data: {', '.join(outdated)}. Run the command without "
            f"--plan to train the seeds of {PARAMS} first"
        )
    return None


def _nothing_to_add(look: Look, left_out: Iterable[Step]) -> str:
    """The summary of a look without steps of this machine, `left_out` those of other machines."""
    names = {step.name for step in left_out}
    undecided = sum(is_open(one) and name_of(one) not in names for one in look)
    remark = f"; {undecided} undecided with the maximum number of seeds ({LIMITS})" if undecided else ""
    return f"{summary(look)}{remark}"


def _images_shape(growing: GrowingStudy) -> tuple[int, ...]:
    """The shape of all training images, also in a clone that has results and no images."""
    if paths.TRAIN.exists():
        return training_time.images_shape()
    return sum(read_summary().train.values()), *growing.image_shape()


def rows(
    steps: Sequence[Step], unfinished: Mapping[str, Question], present: Mapping[str, int], durations: Durations
) -> Iterator[list[str]]:
    """The cells of each step, below `HEADER`.

    Args:
        steps: of `next_steps`.
        unfinished: of `longest_open`.
        present: variant → the number of seeds that it has.
        durations: of the runs.
    """
    seeds: dict[str, int] = {}  # of each variant after the steps up to this one: comparisons share variants
    for step in steps:
        seeds |= {name: max(step.final_n, seeds.get(name, 0)) for name in step.variants}
        runs, projected = step.next_runs(present), _projected(unfinished[step.name])
        yield [
            step.name,
            f"{step.n} → {step.next_n}",
            str(sum(runs.values())),
            durations.of(runs),
            text.MISSING if projected is None else f"{projected:,}",
            durations.of(step.all_runs(present)),
            durations.of(missing_runs(seeds, present)),
        ]


def _projected(one: Question) -> int | None:
    """The number of seeds at which a verdict, or the end of a race, is projected; None if none is."""
    return None if one.seeds_projected is None else one.from_seed + one.seeds_projected


def _is_beyond(one: Question, most: int) -> bool:
    """Whether no end is projected within the maximum number of seeds."""
    projected = _projected(one)
    return projected is None or projected > most


def _notes(cells: Sequence[Sequence[str]], durations: Durations) -> Iterator[str]:
    """What the columns of times mean."""
    yield f"Verdicts, and the ends of races, are projections. Times are those of {durations.at_once} runs at a time."
    if any(ABOUT in cell for row in cells for cell in row):
        yield (
            f"{ABOUT}: very roughly, estimated from the recipe and the speed of this machine, since a variant has no "
            "run in this workspace."
        )
