"""The interface of executors, which are modules with the functions `takes`, `slots` and `training`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from stages.recipes.shared.recipe import Recipe
from stages.train.run import Failed, Run, Train, Trained

# An iterator over the results of the runs, as they end; and a function that describes the runs under way.
Execution = tuple[Iterator[Trained | Failed], Callable[[], str]]


class Executor(Protocol):
    """A module that trains runs."""

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
