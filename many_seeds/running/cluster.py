"""Runs of a Python function on a Dask cluster."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from many_seeds.running.functions import call
from many_seeds.running.runs import Outcome, Run

ADDRESS = "DASK_SCHEDULER_ADDRESS"
CONNECT_SECONDS = 10


class ClusterWorker:
    """Calls a function on any thread of a Dask cluster, which needs the packages of the function and many_seeds.

    Args:
        executor: of a client.
        function: `functions.pickled`.
        variants: variant → the keyword arguments of the function.
        score: the score by which variants are compared.
    """

    def __init__(self, executor: Any, function: bytes, variants: Mapping[str, Mapping[str, Any]], score: str) -> None:
        self._executor = executor
        self._function = function
        self._variants = variants
        self._score = score
        self._future: Future[Outcome] | None = None

    def start(self, run: Run) -> "Future[Outcome]":
        fields = dict(self._variants[run.variant])
        future: Future[Outcome] = self._executor.submit(call, self._function, fields, run.seed, self._score)
        self._future = future
        return future

    def is_ready(self) -> bool:
        return True

    def kill(self) -> None:
        """Cancel the run. Dask can't stop a thread: a run that has started ends on the cluster, without effect."""
        if self._future is not None:
            self._future.cancel()

    def close(self) -> None:
        """The cluster stays as it is."""


@contextlib.contextmanager
def cluster_workers(
    function: bytes, variants: Mapping[str, Mapping[str, Any]], score: str, count: int | None
) -> Iterator[list[ClusterWorker]]:
    """Workers on the cluster whose address is in the environment.

    Args:
        function: `functions.pickled`.
        variants: variant → the keyword arguments of the function.
        score: the score by which variants are compared.
        count: the number of runs at a time; None for the number of threads that the cluster has now.

    Raises:
        UserError: Dask is missing, or the scheduler does not answer.
    """
    address = os.environ[ADDRESS]
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"{ADDRESS} is set, but Dask is missing: install dask and distributed, or unset it") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {ADDRESS}={redact(address)}: start it, or unset the variable to train on "
            "this machine"
        ) from error
    with client:
        threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
        executor = client.get_executor(pure=False)
        yield [ClusterWorker(executor, function, variants, score) for _ in range(count or max(1, threads))]
