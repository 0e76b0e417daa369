"""Where runs are computed. An executor is a file with `training` and `slots`, and a line in the table `EXECUTORS`."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from stages.errors import StudyError
from stages.train.run import Failed, Run, Train, Trained

# What comes of every run, as it ends; and a function that says what is under way.
Execution = tuple[Iterator[Trained | Failed], Callable[[], str]]

# name: whether this machine's settings ask for it, in this order; the module; the extra of pyproject.toml it needs
EXECUTORS = {
    "dask": (lambda: bool(os.environ.get("DASK_SCHEDULER_ADDRESS")), "stages.train.executors.cluster", "cluster"),
    "processes": (lambda: True, "stages.train.executors.processes", None),
}


def slots() -> int:
    """How many runs the executor of this machine's settings trains at a time."""
    return _chosen().slots()


def executor(
    runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
) -> AbstractContextManager[Execution]:
    """Train `runs`, in this order, by the first executor that this machine's settings ask for.

    Raises:
        StudyError: what the executor needs is not installed.
    """
    return _chosen().training(runs, images, labels, train)


def _chosen() -> Any:
    name, (_, module, extra) = next(item for item in EXECUTORS.items() if item[1][0]())
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StudyError(f"runs should be computed by {name}, but {error}: pip install -e '.[{extra}]'") from error
