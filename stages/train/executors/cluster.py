"""Runs on a Dask cluster: checks of the workers, transfer of the data, and recovery from lost machines."""

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import threading
import uuid
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import psutil
from dask._task_spec import Task, TaskRef
from distributed import Client, KilledWorker, Security, as_completed, get_worker
from distributed.comm import connect

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study.provenance.environments import installed_versions
from stages.study.provenance.families import code_digest
from stages.train.executors.interface import Execution
from stages.train.run import Failed, Run, Train, Trained, describe_error, differing

CONNECT_SECONDS = 10  # also the time to look for a lost scheduler
POLL_SECONDS = 0.5  # between two checks whether a run was cancelled
GROWTH = 300e6  # bytes by which a process may grow before it is replaced, as in loky
REQUIRED = (
    "The scheduler and every worker need this commit of the project on PYTHONPATH and the packages of "
    "requirements.lock: docs/clusters.md."
)


def code_files() -> list[Path]:
    """None: `train` decides the result."""
    return []


def takes(recipe: Recipe) -> bool:
    return True


def slots() -> int:
    """The number of threads of all workers; 1 while the cluster has none.

    Raises:
        UserError: the scheduler does not answer.
    """
    with _connected() as client:
        return max(1, sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))


@contextlib.contextmanager
def training(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs on the Dask cluster of DASK_SCHEDULER_ADDRESS, which workers may join and leave at any time.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, height, width] or [n, height, width, 3], all training images.
        labels: uint8 or uint16 [n].
        train: the function that a worker executes.

    Yields:
        An iterator over the results of the runs, as they end; and a function that describes the runs under way.

    Raises:
        UserError: the scheduler does not answer or is lost, or a worker has other packages or code.
    """
    address, client = _address(), _connected()

    def workers() -> int:
        return client.scheduler_info(n_workers=0).get("n_workers", 0)

    def under_way() -> str:
        count = workers()
        return f"runs on {count} Dask workers" if count else "none: every run waits for a Dask worker"

    with client:
        _check(client, address, runs)
        print(f"Dask cluster at {redact(address)}: {workers()} workers so far", flush=True)
        with contextlib.closing(_results(client, address, runs, images, labels, train)) as results:
            yield results, under_way


def _address() -> str:
    """The address of the scheduler.

    Raises:
        UserError: the variable for it is not set.
    """
    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        return address
    raise UserError(
        "STUDY_EXECUTOR=dask needs DASK_SCHEDULER_ADDRESS, tcp://host:port of a running `dask scheduler`, received "
        "none: set it, or unset STUDY_EXECUTOR to train on this machine"
    )


def _connected() -> Client:
    # Dask logs several tracebacks for a broken connection; the errors raised here replace them.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(_check_scheduler(_address()))
        return Client(_address(), timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or "the program at this address is no Dask scheduler"
        raise UserError(
            f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={_address()} ({reason}). Expected tcp://host:port of "
            "a running `dask scheduler`: start it, or unset the variable to train on this machine."
        ) from error


async def _check_scheduler(address: str) -> None:
    """Check that a scheduler answers. `Client` would wait for another program forever.

    Raises:
        TimeoutError: no scheduler answers.
    """
    async with asyncio.timeout(1.5 * CONNECT_SECONDS):
        comm = await connect(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
        await comm.close()


def _check(client: Client, address: str, runs: Sequence[Run]) -> None:
    """Check that every worker can train these runs to the same bits.

    Raises:
        UserError: a worker has other packages or code, or the scheduler lacks the project.
    """
    code = {run.recipe.family: run.digests["code"] for run in runs}
    try:
        client.run_on_scheduler(_Trainer, None, None)  # the scheduler unpickles tasks
        objections = client.run(_objection, runs[0].versions, code, on_error="return")
    except (ImportError, AttributeError) as error:
        raise UserError(f"the Dask scheduler at {address} lacks the project ({error}). {REQUIRED}") from error
    except OSError as error:
        raise _lost(address) from error
    # The scheduler removes workers that do not answer.
    refused = [
        f"{worker}: {objection}"
        for worker, objection in objections.items()
        if objection and not isinstance(objection, OSError)
    ]
    if refused:
        raise UserError(
            f"{len(refused)} of {len(objections)} Dask workers can't train this study:\n  "
            + "\n  ".join(refused)
            + f"\n{REQUIRED} Nothing was trained; restart them and run the same command again."
        )


def _objection(versions: dict[str, str], code: dict[str, str]) -> str:
    """Why this worker can't train the driver's runs, as text; empty if it can.

    Args:
        versions: package → version, on the driver.
        code: family → digest of its code, on the driver.
    """
    found = installed_versions(backend())
    parts = [differing(found, versions)] if found != versions else []
    parts += [f"other code for {family} runs there" for family, digest in code.items() if code_digest(family) != digest]
    return "; ".join(parts)


def _results(
    client: Client, address: str, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
) -> Generator[Trained | Failed]:
    # A task, not scattered data: Dask repeats it if the last worker with the data is lost.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}):
        trainer = client.submit(_Trainer, images, labels, pure=False)
    waiting = {}
    for place, run in enumerate(runs):
        # Only Dask's task class can mark a task as a producer of data, which is queued until a thread is free (see
        # dask.yaml). A few unmarked tasks would all wait at the worker that has the data.
        task = Task(f"{run.name}-{uuid.uuid4()}", _train, train, run, TaskRef(trainer.key), _data_producer=True)
        waiting[client.get({task.key: task}, task.key, sync=False, priority=-place)] = run
    for future in as_completed(list(waiting)):
        run = waiting.pop(future)
        try:
            result = future.result()
        except Exception as error:  # of any type
            if future.status != "error":
                raise _lost(address) from error
            result = Failed(run, _reason(error))
        yield result


class _Trainer:
    """The images on a worker, and the processes that train on them.

    TensorFlow keeps the images of every run (about 50 MB) until its process ends, and Dask pauses a worker whose memory
    has grown so much. So runs are trained in separate processes, which are replaced when they have grown. They end when
    Dask deletes this object or cancels a run.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._data = images, labels
        self._idle: list[tuple[BaseProcess, Connection]] = []  # at most one for each thread of the worker

    def __reduce__(self) -> tuple[Any, ...]:
        return _Trainer, self._data

    def train(self, train: Train, run: Run) -> Trained | Failed:
        """Train a run in a process that is idle, or in a new one."""
        try:
            process, pipe = self._idle.pop()
        except IndexError:
            process, pipe = _start_process(*self._data)
        try:
            pipe.send_bytes(cloudpickle.dumps((train, run)))
            while not pipe.poll(POLL_SECONDS):
                if _is_cancelled():
                    process.kill()
            result, is_reusable = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            process.join()
            return Failed(run, f"its process on Dask worker {get_worker().address} died: out of memory, or killed")
        if is_reusable:
            self._idle.append((process, pipe))
        return result


def _is_cancelled() -> bool:
    """Whether Dask cancelled the task of this thread, as when the driver ended. It can't stop the thread itself."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def _start_process(images: np.ndarray, labels: np.ndarray) -> tuple[BaseProcess, Connection]:
    multiprocessing.current_process().daemon = False  # daemons, as the workers of a nanny, can't start processes
    spawn = multiprocessing.get_context("spawn")
    parent_end, child_end = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(child_end, images, labels), daemon=True)
    process.start()
    child_end.close()
    return process, parent_end


def _serve(pipe: Connection, images: np.ndarray, labels: np.ndarray) -> None:
    """Train the runs that the pipe sends, until it closes."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # a GPU of the worker would give other bits
    threading.Thread(target=_exit_with_worker, daemon=True).start()
    memory, after_first = psutil.Process(), None
    loaded_code = functools.cache(code_digest)  # computed once, so later edits of the files do not change it
    with contextlib.suppress(EOFError):
        while True:
            train, run = pickle.loads(pipe.recv_bytes())
            try:
                if loaded_code(run.recipe.family) == run.digests["code"]:
                    result = train(run, images, labels, None)
                else:  # on a worker that joined after the check
                    result = Failed(run, f"other code for {run.recipe.family} runs on a Dask worker. {REQUIRED}")
            except Exception as error:  # noqa: BLE001  # a run may raise any error
                result = Failed(run, _reason(error))
            used = memory.memory_info().rss
            after_first = after_first or used
            pipe.send_bytes(cloudpickle.dumps((result, used - after_first < GROWTH)))


def _exit_with_worker() -> None:
    """Wait for the end of the worker, then end this process."""
    worker = multiprocessing.parent_process()
    assert worker is not None
    worker.join()
    os._exit(1)


def _train(train: Train, run: Run, trainer: _Trainer) -> Trained | Failed:
    return trainer.train(train, run)


def _reason(error: Exception) -> str:
    if isinstance(error, KilledWorker):
        return (
            f"{error.allowed_failures + 1} Dask workers died with it, the last at {error.last_worker.address}: "
            "their logs may say why; a run needs about 1.4 GiB of memory"
        )
    return describe_error(error)


def _lost(address: str) -> UserError:
    return UserError(
        f"the Dask scheduler at {address} was lost or restarted. The finished runs are kept. Check that it and its "
        "workers are running, and run the same command again."
    )
