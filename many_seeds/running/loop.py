"""Add seeds where a result is open, until none is, or no seeds or no time is left."""

import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from many_seeds import growth
from many_seeds.growth import Question, Step, contenders, first_affordable, is_open, name_of, seeds_used, total_seconds
from many_seeds.ledger import Row
from many_seeds.output import text
from many_seeds.output.messages import counted, duration, listed
from many_seeds.races import RaceResult
from many_seeds.results import Results
from many_seeds.running.commands import expanded
from many_seeds.running.pool import Pool
from many_seeds.running.runs import Run
from many_seeds.running.study import Study

GIT_SECONDS = 10  # until the commit counts as unknown

Answer = Results | RaceResult
Show = Callable[[str], None]


def decide(study: Study, pool: Pool, *, most: int, hours: float, show: Show) -> Answer:
    """Train seeds step by step until every comparison has a verdict or the race has ended.

    Args:
        study: what is decided.
        pool: the workers.
        most: the maximum number of seeds of a variant; in the fixed design, the number.
        hours: the time budget.
        show: prints a line.

    Returns:
        The results of the scores in the store.

    Raises:
        UserError: a file is damaged or can't be written.
    """
    deadline = time.monotonic() + 3600 * hours
    study.enter()
    rows, failed, late = study.preview(), set[Run](), set[str]()
    while True:
        answer, seeds = study.results(rows), _seeds(study)
        steps = next_steps(study, answer, failed, most=most, at_once=len(pool.workers))
        seconds = study.store.mean_seconds()
        in_time = [step for step in steps if step.name not in late]
        step = first_affordable(
            in_time, seeds, seconds, seconds_left=deadline - time.monotonic(), at_once=len(pool.workers)
        )
        if step is None:
            show(_conclusion(study, answer, steps, failed, most))
            return answer
        if any(seeds.values()) and study.settings.design == "open":
            show(f"\n{table(answer)}\n")
        runs = next_runs(study, step)
        show(_announcement(step, runs, total_seconds(step.all_runs(seeds), seconds), len(pool.workers)))
        if not pool.train(runs, deadline):
            late.add(step.name)
        failed |= study.failures().keys() & set(runs)


def next_steps(study: Study, answer: Answer, failed: Iterable[Run], *, most: int, at_once: int) -> list[Step]:
    """The next step of each open comparison or race, the shortest first.

    Those that wait for a run that has failed in this call have none, nor have those that no number of seeds can decide.

    Args:
        study: what is decided.
        answer: its results.
        failed: the runs that have failed in this call.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs at a time.
    """
    waiting = {run.variant for run in failed}
    able = [one for one in questions(answer) if waiting.isdisjoint(contenders(one)) and not _is_stuck(one)]
    if study.settings.design == "fixed":
        counts = _seeds(study)
        missing = [one for one in able if min(counts[name] for name in contenders(one)) < most]
        return [Step(name_of(one), contenders(one), seeds_used(one), most, most) for one in missing]

    def costs() -> Mapping[str, float]:
        return dict.fromkeys(study.variants, 1.0)

    return growth.next_steps(able, _seeds(study), study.store.mean_seconds(), costs, most=most, at_once=at_once)


def questions(answer: Answer) -> list[Question]:
    return [answer] if isinstance(answer, RaceResult) else list(answer)


def next_runs(study: Study, step: Step) -> list[Run]:
    """The runs of a step without a score, seed by seed, so that an interruption leaves pairs."""
    runs = [run for name in step.variants for run in study.store.missing(name, step.next_n)]
    return sorted(runs, key=lambda run: run.seed)


def table(answer: Answer) -> str:
    return answer.table() if isinstance(answer, RaceResult) else text.table(answer)


def plan(study: Study, rows: Sequence[Row], *, most: int, at_once: int) -> str:
    """What would be trained next for each open comparison, and the first commands.

    Args:
        study: what is decided.
        rows: the ledger with what is asked.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs at a time.
    """
    answer, seconds = study.results(rows), study.store.mean_seconds()
    lines = [table(answer), ""] if any(_seeds(study).values()) else []
    steps = next_steps(study, answer, (), most=most, at_once=at_once)
    if not steps:
        return "\n".join([*lines, f"Nothing would run: no result is open with fewer than {counted(most, 'seed')}."])
    listed_runs = set[Run]()
    for step in steps:
        runs = [run for run in next_runs(study, step) if run not in listed_runs]
        listed_runs.update(runs)
        lines.append(_announcement(step, runs, total_seconds(step.all_runs(_seeds(study)), seconds), at_once))
        if study.command is not None:
            commands = [expanded(study.command, study.variants[run.variant], run.seed, "{out}") for run in runs]
            lines += [f"  {shlex.join(command)}" for command in commands]
    return "\n".join(lines)


def commit() -> str:
    """The commit of the current folder, with a + if tracked files differ from it; "" without git."""
    try:
        head, status = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout
            for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.strip() + ("+" if status.strip() else "")


def _seeds(study: Study) -> dict[str, int]:
    """Variant → the number of its seeds up to the first one without a score."""
    return {name: len(study.store.scores(name, study.score)) for name in study.compared}


def _is_stuck(one: Question) -> bool:
    """Whether every seed has the same difference, so that further seeds can't give a verdict."""
    if seeds_used(one) < growth.FIRST_LOOK:
        return False
    if isinstance(one, RaceResult):
        return all(result.tied for result in one.with_leader() if result.a in one.standing.in_race)
    return one.tied


def _announcement(step: Step, runs: Sequence[Run], seconds: float | None, at_once: int) -> str:
    total = "" if seconds is None else f"; about {duration(seconds / at_once)} until {counted(step.final_n, 'seed')}"
    return f"{step.name}: {step.n} → {counted(step.next_n, 'seed')}, {counted(len(runs), 'run')}{total}"


def _conclusion(study: Study, answer: Answer, steps: Iterable[Step], failed: Iterable[Run], most: int) -> str:
    """How the call ends, and why open results get no more seeds."""
    later, waiting = {step.name for step in steps}, {run.variant for run in failed}
    lines = []
    for one in filter(is_open, questions(answer)):
        reason = f"it has the maximum of {counted(most, 'seed')}"
        if broken := sorted(waiting.intersection(contenders(one))):
            reason = f"a run of {listed(broken)} failed; the next call trains it again"
        elif _is_stuck(one):
            reason = "every seed has the same difference"
        elif name_of(one) in later:
            reason = "no time is left for its next runs"
        lines.append(f"{name_of(one)} is open: {reason}")
    if not isinstance(answer, RaceResult):
        lines.insert(0, text.summary(answer))
    elif answer.winner is not None:
        lines.insert(0, f"the race has ended: {answer.winner} is the winner")
    return "\n".join([*lines, f"scores: {study.store.path}"])
