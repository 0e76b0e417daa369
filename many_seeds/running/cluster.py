"""Runs on a Dask cluster."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Any

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from many_seeds.running.commands import Command
from many_seeds.running.functions import FunctionWorker, threads
from many_seeds.running.processes import CommandWorker, Reaper
from many_seeds.running.runs import Outcome, Run, Worker

ADDRESS = "DASK_SCHEDULER_ADDRESS"
CONNECT_SECONDS = 10
LOOK_SECONDS = 1.0  # between looks whether a run is still wanted

Train = Callable[[Run], Outcome]


class ClusterWorker:
    """Executes runs on any thread of a Dask cluster, which needs many_seeds, joblib and what the runs need.

    Args:
        executor: of a client.
        train: executes a run.
    """

    def __init__(self, executor: Any, train: Train) -> None:
        self._executor = executor
        self._train = train
        self._future: Future[Outcome] | None = None

    def start(self, run: Run) -> "Future[Outcome]":
        future: Future[Outcome] = self._executor.submit(self._train, run)
        self._future = future
        return future

    def is_ready(self) -> bool:
        return True

    def kill(self) -> None:
        """Cancel the run, whose process then ends."""
        if self._future is not None:
            self._future.cancel()

    def close(self) -> None:
        """The cluster stays as it is."""


def execute(command: Command, run: Run) -> Outcome:
    """Execute a command in a task of Dask, and end it if the task is cancelled or its worker is killed."""
    reaper = Reaper()
    try:
        return _watched(CommandWorker(command, _threads(), reaper), run)
    finally:
        reaper.close()


def execute_function(function: bytes, variants: Mapping[str, Mapping[str, Any]], score: str, run: Run) -> Outcome:
    """Call a function in a task of Dask, in a process that ends with the task or its worker.

    In the threads of a worker, runs would share the global generators of random numbers that they seed.

    Args:
        function: `pickled`.
        variants: variant → the keyword arguments of the function.
        score: the score by which variants are compared.
        run: the variant and seed.
    """
    multiprocessing.current_process().daemon = False  # daemons, as the workers of a nanny, can't start processes
    return _watched(FunctionWorker(function, variants, score, _threads()), run)


def _threads() -> dict[str, str]:
    """See `threads`, for the runs of this worker of Dask."""
    return threads(_dask_worker().state.nthreads)


def _watched(worker: Worker, run: Run) -> Outcome:
    """The outcome of a run, which is killed when the task of this thread is no longer wanted."""
    try:
        future = worker.start(run)
        while not wait([future], LOOK_SECONDS).done:
            if not _is_wanted():
                worker.kill()
        return future.result()
    finally:
        worker.close()


def _is_wanted() -> bool:
    """Whether the task of this thread has not been cancelled, nor lost its client."""
    worker = _dask_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state == "executing"


def _dask_worker() -> Any:
    """The worker of Dask whose task this thread executes."""
    from distributed import get_worker

    return get_worker()


@contextlib.contextmanager
def cluster_workers(train: Train, count: int | None) -> Iterator[list[ClusterWorker]]:
    """Workers on the cluster whose address is in the environment.

    Args:
        train: executes a run.
        count: the number of runs at a time; None for the number of threads that the cluster has now.

    Raises:
        UserError: Dask is missing, or the scheduler does not answer.
    """
    with _connected() as client:
        executor = client.get_executor(pure=False)
        yield [ClusterWorker(executor, train) for _ in range(count or _slots(client))]


def slots() -> int:
    """The number of threads that the cluster has now; 1 while it has none.

    Raises:
        UserError: see `cluster_workers`.
    """
    with _connected() as client:
        return _slots(client)


def _slots(client: Any) -> int:
    return max(1, sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))


def _connected() -> Any:
    """A client of the cluster whose address is in the environment."""
    address = os.environ[ADDRESS]
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"{ADDRESS} is set, but Dask is missing: install dask and distributed, or unset it") from error
    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {ADDRESS}={redact(address)}: start it, or unset the variable to train on "
            "this machine"
        ) from error
