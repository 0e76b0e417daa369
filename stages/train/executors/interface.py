"""The interface of executors, which are modules with the functions of `Executor`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.recipes.shared.recipe import Recipe
from stages.train.run import Failed, Run, Train, Trained

# An iterator over the results of the runs, as they end; and a function that describes the runs under way.
Execution = tuple[Iterator[Trained | Failed], Callable[[], str]]


class Executor(Protocol):
    """A module that trains runs.

    If the runs of a study have several executors, these work at the same time in one process: all their contexts are
    entered in the main thread, then the results of each are consumed in a thread of its own, while the main thread
    calls the functions that describe the runs under way. So the state of a module, and settings of the process such as
    environment variables, must not be changed while runs are trained.
    """

    def code_files(self) -> list[Path]:
        """The files whose code decides the result of a run, in the order in which they are digested.

        Their digest is part of the keys of runs. Empty if the result does not depend on the executor, which then trains
        a run by the function `train` that it is given.
        """

    def takes(self, recipe: Recipe) -> bool:
        """Whether the executor can train runs of a recipe."""

    def slots(self) -> int:
        """How many runs the executor trains at the same time."""

    def training(
        self, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
    ) -> AbstractContextManager[Execution]:
        """Train runs.

        Args:
            runs: the runs, in the order in which to start them.
            images: uint8 [n, height, width] or [n, height, width, 3], all training images.
            labels: uint8 or uint16 [n].
            train: the function that trains one run.

        Returns:
            A context with the results as they end, and a function that describes the runs under way.

        Raises:
            UserError: the executor is not available, or lost its workers.
        """
