"""Runs on a Dask cluster: who may take part, how the data get there, and what the loss of a machine means."""

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
from typing import Any

import cloudpickle
import dask
import numpy as np
import psutil
from dask._task_spec import Task, TaskRef
from distributed import Client, KilledWorker, Security, as_completed, get_worker
from distributed.comm import connect

from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study.environments import installed_versions
from stages.study.families import code_digest
from stages.train.executors.interface import Execution
from stages.train.run import Failed, Run, Train, Trained, describe_error, differing

CONNECT_SECONDS = 10  # also how long a scheduler that was lost is looked for
WANTED_SECONDS = 0.5  # between two looks whether anybody still waits for a run
GROWTH = 300e6  # bytes by which a process may grow from run to run; as much as loky allows
REQUIRED = (
    "The scheduler and every worker need this commit of the project on PYTHONPATH and the packages of "
    "requirements.lock: docs/clusters.md."
)


def takes(recipe: Recipe) -> bool:
    return True


def slots() -> int:
    """Threads of all workers of the cluster; 1 while it has none."""
    with _connected() as client:
        return max(1, sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))


@contextlib.contextmanager
def training(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs on the Dask cluster of DASK_SCHEDULER_ADDRESS; workers may join and leave meanwhile.

    Yields:
        The results of the runs, as they end; and a function that describes what is under way.

    Raises:
        UserError: the scheduler does not answer or is lost, or a worker does not fit the study.
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
    return os.environ["DASK_SCHEDULER_ADDRESS"]


def _connected() -> Client:
    # Dask logs a broken connection with several tracebacks; our errors say what follows from it.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(_greet(_address()))
        return Client(_address(), timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or "something else listens there"
        raise UserError(
            f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={_address()} ({reason}). Expected tcp://host:port of "
            "a running `dask scheduler`: start it, or unset the variable to train on this machine."
        ) from error


async def _greet(address: str) -> None:
    """Raise TimeoutError where something else than a scheduler listens, for which `Client` waits for ever."""
    async with asyncio.timeout(1.5 * CONNECT_SECONDS):
        comm = await connect(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
        await comm.close()


def _check(client: Client, address: str, runs: Sequence[Run]) -> None:
    """Refuse to start beside a worker that could not train these runs to the same bits."""
    code = {run.recipe.family: run.digests["code"] for run in runs}
    try:
        client.run_on_scheduler(_Trainer, None, None)  # it unpickles what it hands out
        answers = client.run(_objection, runs[0].versions, code, on_error="return")
    except (ImportError, AttributeError) as error:
        raise UserError(f"the Dask scheduler at {address} lacks the project ({error}). {REQUIRED}") from error
    except OSError as error:
        raise _lost(address) from error
    # A worker that does not answer is the scheduler's to drop.
    refused = [
        f"{worker}: {answer}" for worker, answer in answers.items() if answer and not isinstance(answer, OSError)
    ]
    if refused:
        raise UserError(
            f"{len(refused)} of {len(answers)} Dask workers can't train this study:\n  "
            + "\n  ".join(refused)
            + f"\n{REQUIRED} Nothing was trained; restart them and run the same command again."
        )


def _objection(versions: dict[str, str], code: dict[str, str]) -> str:
    """Why this worker can't train with the driver's package versions and code digests by family; empty if it can."""
    found = installed_versions(backend())
    parts = [differing(found, versions)] if found != versions else []
    parts += [f"other code for {family} runs there" for family, digest in code.items() if code_digest(family) != digest]
    return "; ".join(parts)


def _results(
    client: Client, address: str, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
) -> Generator[Trained | Failed]:
    # A task rather than scattered data: it is made again where the last worker that held the data is lost.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}):
        trainer = client.submit(_Trainer, images, labels, pure=False)
    waiting = {}
    for place, run in enumerate(runs):
        # Marked as a producer of data, which only Dask's own classes can say, a run is queued until a thread is free
        # (dask.yaml). Other tasks, where there are few, go at once to the worker that has the data, and wait there.
        task = Task(f"{run.name}-{uuid.uuid4()}", _train, train, run, TaskRef(trainer.key), _data_producer=True)
        waiting[client.get({task.key: task}, task.key, sync=False, priority=-place)] = run
    for future in as_completed(list(waiting)):
        run = waiting.pop(future)
        try:
            result = future.result()
        except Exception as error:  # whatever a run may raise
            if future.status != "error":
                raise _lost(address) from error
            result = Failed(run, _reason(error))
        yield result


class _Trainer:
    """The images on a worker, and processes of it that train on them, which end when Dask drops this object or a run.

    TensorFlow keeps the images of every run (about 50 MB) for as long as its process lives. Dask would stop giving runs
    to a worker that has grown so, for good; a process beside it is replaced.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._data = images, labels
        self._idle: list[tuple[BaseProcess, Connection]] = []  # one for each thread of the worker, at most

    def __reduce__(self) -> tuple[Any, ...]:
        return _Trainer, self._data

    def train(self, train: Train, run: Run) -> Trained | Failed:
        try:
            process, pipe = self._idle.pop()
        except IndexError:
            process, pipe = _start_process(*self._data)
        try:
            pipe.send_bytes(cloudpickle.dumps((train, run)))
            while not pipe.poll(WANTED_SECONDS):
                if not _wanted():
                    process.kill()
            result, may_go_on = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            process.join()
            return Failed(run, f"its process on Dask worker {get_worker().address} died: out of memory, or killed")
        if may_go_on:
            self._idle.append((process, pipe))
        return result


def _wanted() -> bool:
    """Whether anybody waits for the run of this thread: Dask can't stop a thread where the driver has gone."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state != "cancelled"


def _start_process(images: np.ndarray, labels: np.ndarray) -> tuple[BaseProcess, Connection]:
    multiprocessing.current_process().daemon = False  # a nanny's worker is one, and may start no process then
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, images, labels), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(pipe: Connection, images: np.ndarray, labels: np.ndarray) -> None:
    """Train what comes through the pipe until it closes."""
    threading.Thread(target=_die_with_worker, daemon=True).start()
    memory, after_first = psutil.Process(), None
    loaded_code = functools.cache(code_digest)  # of the files as they are now, which a later edit does not change
    with contextlib.suppress(EOFError):
        while True:
            train, run = pickle.loads(pipe.recv_bytes())
            try:
                if loaded_code(run.recipe.family) == run.digests["code"]:
                    result = train(run, images, labels, None)
                else:  # the worker joined after the check
                    result = Failed(run, f"other code for {run.recipe.family} runs on a Dask worker. {REQUIRED}")
            except Exception as error:  # noqa: BLE001  # whatever a run may raise
                result = Failed(run, _reason(error))
            held = memory.memory_info().rss
            after_first = after_first or held
            pipe.send_bytes(cloudpickle.dumps((result, held - after_first < GROWTH)))


def _die_with_worker() -> None:
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
        f"the Dask scheduler at {address} was lost or restarted. The runs that had finished are kept: see that it and "
        "its workers are up and run the same command again."
    )
