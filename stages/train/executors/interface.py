"""What an executor is: a module with `takes`, `slots` and `training`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from stages.recipes.shared.recipe import Recipe
from stages.train.run import Failed, Run, Train, Trained

# The results of the runs, as they end; and a function that describes what is under way.
Execution = tuple[Iterator[Trained | Failed], Callable[[], str]]


class Executor(Protocol):
    def takes(self, recipe: Recipe) -> bool:
        """Whether it can train runs of this recipe."""

    def slots(self) -> int:
        """How many runs it trains at a time."""

    def training(
        self, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
    ) -> AbstractContextManager[Execution]:
        """Train `runs`, in this order, by calling `train` or as it would."""
