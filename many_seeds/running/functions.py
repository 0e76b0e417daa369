"""Runs of a Python function, each worker in a process of its own."""

import contextlib
import functools
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from many_seeds.commands.console import signals_wait, when_orphaned
from many_seeds.errors import UserError
from many_seeds.running.runs import Outcome, Run, RunError, ScoreError, as_scores, last_lines, outcome_of
from many_seeds.running.tracker import start_quiet_tracker

# How many threads the usual libraries for arrays use.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_function = b""  # in a worker: `pickled`


class FunctionWorker:
    """Calls a function in a process, which is replaced if it dies or is killed.

    Args:
        function: `pickled`.
        variants: variant → the keyword arguments of the function.
        score: the score by which variants are compared.
        environment: variables of the process.
    """

    def __init__(
        self, function: bytes, variants: Mapping[str, Mapping[str, Any]], score: str, environment: Mapping[str, str]
    ) -> None:
        self._function = function
        self._variants = variants
        self._score = score
        self._environment = dict(environment)
        self._executor: Any = None
        self._ready: Future[None] | None = None

    def start(self, run: Run) -> "Future[Outcome]":
        with signals_wait() if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
            if self._executor is None:  # a worker can't be terminated while it starts
                self._executor = _executor(self._function, self._environment)
                self._ready = self._executor.submit(_nothing)
            return self._executor.submit(_call, self._variants, self._score, run)

    def is_ready(self) -> bool:
        return self._ready is not None and self._ready.done()

    def kill(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None

    def close(self) -> None:
        self.kill()


def pickled(function: Callable[..., Any]) -> bytes:
    """A function as bytes for other processes, also one of a script, a notebook or another function.

    Raises:
        UserError: it is no function, a package is missing, or it can't be pickled.
    """
    if not callable(function):
        raise UserError(f"train should be a function, called as train(seed=seed, **fields), received {function!r}")
    try:
        import cloudpickle
        import joblib  # noqa: F401  # for the processes; its absence is named before anything runs
    except ImportError as error:
        raise UserError("decide needs joblib and cloudpickle: `pip install 'many-seeds[run]'` installs it") from error
    try:
        return cloudpickle.dumps(function)
    except Exception as error:
        raise UserError(
            f"train should be a function that can be pickled, received {function!r} ({error}): open files and "
            "connections within the function"
        ) from error


def threads(workers: int) -> dict[str, str]:
    """Environment variables that share the cores of this machine among workers; those that are set stay.

    Raises:
        UserError: joblib is missing.
    """
    try:
        import joblib
    except ImportError as error:
        raise UserError("many-seeds run needs joblib: `pip install 'many-seeds[run]'` installs it") from error
    share = str(max(1, joblib.cpu_count() // workers))
    return {name: share for name in THREADS if name not in os.environ}


def _executor(function: bytes, environment: Mapping[str, str]) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    # loky replaces a worker whose memory has grown between two runs, which loses nothing.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    start_quiet_tracker()
    return ProcessPoolExecutor(1, initializer=_prepare, initargs=(function, os.getpid()), env=dict(environment))


def _prepare(function: bytes, driver: int) -> None:
    """Let a worker end with its driver, and ignore Ctrl-C, which the driver handles."""
    global _function
    _function = function  # sent once, since it may have the data
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    when_orphaned(lambda: os._exit(1), driver)


def _nothing() -> None:
    pass


def _call(variants: Mapping[str, Mapping[str, Any]], score: str, run: Run) -> Outcome:
    """One run, in a worker. Any error of it (memory, a library) ends this run only.

    Args:
        variants: variant → the keyword arguments of the function.
        score: the score by which variants are compared.
        run: the variant and seed.
    """

    def train() -> dict[str, float]:
        try:
            return as_scores(_loaded(_function)(seed=run.seed, **variants[run.variant]), score)
        except ScoreError:
            raise
        except (Exception, SystemExit) as error:
            described = traceback.format_exception_only(error)[-1].strip()
            raise RunError(described, last_lines(traceback.format_exc()), retry=True) from error

    return outcome_of(train)


@functools.lru_cache(1)
def _loaded(function: bytes) -> Callable[..., Any]:
    return pickle.loads(function)
