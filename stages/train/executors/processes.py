"""Runs in parallel processes on this machine, with one thread each."""

import contextlib
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np

from many_seeds.commands.console import signals_wait, when_orphaned
from many_seeds.errors import UserError
from many_seeds.running.tracker import start_quiet_tracker
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study.provenance.environments import BACKEND_PACKAGES
from stages.train.executors.interface import Execution
from stages.train.run import Failed, Run, Train, Trained, describe_error


@contextlib.contextmanager
def training(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs on the cores of this machine.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, height, width] or [n, height, width, 3], all training images.
        labels: uint8 or uint16 [n].
        train: the function that a worker executes.

    Yields:
        An iterator over the results of the runs, as they end; and a function that describes the runs under way.

    Raises:
        UserError: a worker died.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # inherited by the workers
    start_quiet_tracker()
    # loky replaces a worker whose memory has grown between two runs, which loses nothing.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    # This process stops after an error, which is reported separately.
    warnings.filterwarnings("ignore", ".* tasks which were still being processed", UserWarning)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        epochs = Path(folder)  # of a file for each run under way, with its epoch

        def under_way() -> str:
            return "; ".join(f"{file.name} {_text(file)}" for file in sorted(epochs.iterdir()))

        tasks = (joblib.delayed(_attempt)(train, run, images, labels, epochs / run.name) for run in runs)
        count = min(slots(), len(runs))
        if backend() != _backend_of(runs):
            count = max(count, 2)  # a single run would be trained in this process, to which batched seeds gave JAX
        settings = {"initializer": _prepare_worker, "initargs": [os.getpid(), _backend_of(runs)]} if count > 1 else {}
        with (
            contextlib.ExitStack() as ending,
            joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1, **settings),
        ):
            with signals_wait():  # a worker can't be terminated while it starts
                results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)
                ending.enter_context(contextlib.closing(results))
            try:
                yield results, under_way
            except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
                raise UserError(
                    "a worker process died: it was killed, or the machine ran out of memory. The finished runs are "
                    "kept; run `dvc repro`, with STUDY_WORKERS=1 if memory is short."
                ) from error


def _backend_of(runs: Sequence[Run]) -> str:
    """The Keras backend that runs were planned for. Batched seeds change that of the driver."""
    return next(name for name in BACKEND_PACKAGES if name in runs[0].versions)


def _prepare_worker(driver: int, keras_backend: str) -> None:
    """Let a worker end with its driver, ignore Ctrl-C, which the driver handles, and use no GPU.

    Args:
        driver: the process id of the driver.
        keras_backend: of the worker.
    """
    os.environ |= {"KERAS_BACKEND": keras_backend, "JAX_PLATFORMS": "cpu"}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    when_orphaned(lambda: os._exit(1), driver)


def _attempt(train: Train, run: Run, images: np.ndarray, labels: np.ndarray, epoch: Path) -> Trained | Failed:
    # Any error of a run (memory, a full disk, a library) ends that run only.
    try:
        with _on_processor():
            return train(run, images, labels, epoch)
    except Exception as error:  # noqa: BLE001
        return Failed(run, describe_error(error))


@contextlib.contextmanager
def _on_processor() -> Iterator[None]:
    """Let JAX compute on the processor, also in a driver that sees a GPU because it trains its runs itself."""
    if backend() != "jax":
        yield
        return
    import jax

    with jax.default_device(jax.devices("cpu")[0]):
        yield


def code_files() -> list[Path]:
    """None: `train` decides the result."""
    return []


def takes(recipe: Recipe) -> bool:
    return True


def slots() -> int:
    """The number of worker processes: STUDY_WORKERS, or one for each core that this process may use.

    Raises:
        UserError: STUDY_WORKERS is not a positive whole number.
    """
    text = os.environ.get("STUDY_WORKERS", "")
    if not text:
        return joblib.cpu_count()
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"STUDY_WORKERS should be a whole number from 1, received {text!r}")
    return int(text)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:  # the run ended
        return ""
