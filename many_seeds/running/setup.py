"""From the arguments of a function or a file to a study, workers, and its results."""

import math
import numbers
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from many_seeds.growth import MOST
from many_seeds.output import terminal
from many_seeds.pairs import check_two_variants, chosen_pairs
from many_seeds.results import Pair, Settings
from many_seeds.running.cluster import ADDRESS, Train, cluster_workers, execute, execute_function, slots
from many_seeds.running.commands import Command, check_mlflow
from many_seeds.running.functions import FunctionWorker, pickled, threads
from many_seeds.running.loop import Answer, commit, decide
from many_seeds.running.pool import Pool
from many_seeds.running.processes import CommandWorker, Reaper
from many_seeds.running.runs import Worker
from many_seeds.running.store import Store
from many_seeds.running.study import Study

MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many runs, at a time and in total.

    Attributes:
        most: the maximum number of seeds of a variant; None for the default.
        hours: time budget; None for no limit.
        workers: the number of runs at a time; None for one per GPU, and without GPUs one; on a cluster for the number
            of its threads.
        timeout: the time limit of a run in seconds; None for no limit.
        gpus: GPUs of this machine, one for each worker, in turn.

    Raises:
        UserError: a value is out of range.
    """

    most: int | None = None
    hours: float | None = None
    workers: int | None = None
    timeout: float | None = None
    gpus: Sequence[int | str] = ()

    def __post_init__(self) -> None:
        for name, largest in (("most", math.inf), ("workers", MOST_WORKERS)):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and 1 <= value <= largest):
                raise UserError(f"{name} should be a whole number of 1 or more, received {value!r}")
        for name, unit in (("hours", "hours"), ("timeout", "seconds")):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, numbers.Real) and float(value) > 0):
                raise UserError(f"{name} should be a number of {unit} above 0, received {value!r}")
        is_list = isinstance(self.gpus, Sequence) and not isinstance(self.gpus, str)
        if not is_list or not all(isinstance(gpu, int | str) for gpu in self.gpus):
            raise UserError(f"gpus should be a list of numbers, such as [0, 1], received {self.gpus!r}")

    @property
    def at_once(self) -> int:
        """The number of runs at a time on this machine."""
        return self.workers or max(1, len(self.gpus))

    def most_of(self, design: str) -> int:
        """The maximum number of seeds of a variant.

        Raises:
            UserError: the design is fixed, and no number is given.
        """
        if self.most is None and design == "fixed":
            raise UserError("the fixed design needs most, the number of seeds of each variant")
        return self.most or MOST

    def environment(self, worker: int) -> dict[str, str]:
        """The variables with which a worker sees its GPU only."""
        return {"CUDA_VISIBLE_DEVICES": str(self.gpus[worker % len(self.gpus)])} if self.gpus else {}


def asked_pairs(names: Sequence[str], pairs: Any, baseline: str | None, *, race: bool) -> list[Pair]:
    """The pairs of variants to compare; none for a race.

    Raises:
        UserError: there are fewer than two variants, one is unknown, or more than one of pairs, baseline and race is
            given.
    """
    if not race:
        return chosen_pairs(names, pairs, baseline)
    check_two_variants(names)
    if pairs is not None or baseline is not None:
        raise UserError("a race is between all variants: expected no pairs and no baseline with race")
    return []


def new_study(
    variants: Mapping[str, Mapping[str, Any]],
    command: Sequence[str] | None,
    pairs: Sequence[Pair],
    score: str,
    settings: Settings,
    store: Path,
    limits: Limits,
) -> Study:
    """A study, with its store read; see `Study` for the arguments.

    Raises:
        UserError: the store is damaged, or a race or a study without a number of seeds has the fixed design.
    """
    fixed = limits.most_of("fixed") if settings.design == "fixed" else None
    if fixed and not pairs:
        raise UserError("a race adds seeds, so it needs the open design, received fixed")
    return Study(variants, command, pairs, score, settings, Store(store), fixed)


def decide_function(train: Callable[..., Any], study: Study, limits: Limits, *, verbose: bool) -> Answer:
    """Decide a study of a function.

    Raises:
        UserError: see `many_seeds.decide`.
    """
    function, show = pickled(train), _print if verbose else _ignore
    if os.environ.get(ADDRESS):
        return _decide_on_cluster(partial(execute_function, function, study.variants, study.score), study, limits, show)
    shared = threads(limits.at_once)
    workers = [
        FunctionWorker(function, study.variants, study.score, shared | limits.environment(worker))
        for worker in range(limits.at_once)
    ]
    return _decide(study, workers, limits, show)


def decide_command(study: Study, limits: Limits, *, mlflow: bool) -> Answer:
    """Decide a study of a command.

    Args:
        study: the study, with a command.
        limits: how many runs.
        mlflow: whether the command logs its score to MLflow.

    Raises:
        UserError: a file is damaged or can't be written, or MLflow or joblib is missing.
    """
    if mlflow:
        check_mlflow()
    command = Command(study.command or [], study.variants, study.score, mlflow)
    if os.environ.get(ADDRESS):
        return _decide_on_cluster(partial(execute, command), study, limits, _print)
    shared, reaper = threads(limits.at_once), Reaper()
    try:
        workers = [
            CommandWorker(command, shared | limits.environment(worker), reaper) for worker in range(limits.at_once)
        ]
        return _decide(study, workers, limits, _print)
    finally:
        reaper.close()


def planned_at_once(limits: Limits) -> int:
    """The number of runs at a time, on this machine or on the cluster whose address is in the environment.

    Raises:
        UserError: Dask is missing, or the scheduler does not answer.
    """
    return slots() if os.environ.get(ADDRESS) and limits.workers is None else limits.at_once


def _decide_on_cluster(train: Train, study: Study, limits: Limits, show: Callable[[str], None]) -> Answer:
    if limits.timeout is not None or limits.gpus:
        raise UserError(f"timeout and gpus are for this machine: unset {ADDRESS} to train on it")
    with cluster_workers(train, limits.workers) as workers:
        return _decide(study, workers, limits, show)


def _decide(study: Study, workers: Sequence[Worker], limits: Limits, show: Callable[[str], None]) -> Answer:
    pool = Pool(workers, study.store, study.score, limits.timeout, commit(), show)
    most, hours = limits.most_of(study.settings.design), math.inf if limits.hours is None else limits.hours
    try:
        return decide(study, pool, most=most, hours=hours, show=show)
    finally:
        pool.close()


def _print(line: str) -> None:
    print(terminal.for_stream(line, sys.stderr), file=sys.stderr, flush=True)


def _ignore(line: str) -> None:
    pass
