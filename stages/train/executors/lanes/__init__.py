"""All seeds of a variant as one batch on a GPU, through JAX; variants whose programs are the same share a batch.

The last bits of a run depend on how many lanes its batch has (`lanes` of run.json, at the start), on when other lanes
stop, after which the batch may go on narrower, and on the kernels that XLA's autotuning chooses in the process. So a
run that is made again is the same in distribution, not to the bit.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.trained import Trained
from stages.train.executors.interface import Execution
from stages.train.run import Run, Train

NAME = "lanes"
SLOTS = 32  # a batch of fewer lanes leaves a GPU idle


@functools.cache
def sees_gpu() -> bool:
    """Whether JAX is installed and has a GPU."""
    if importlib.util.find_spec("jax") is None:
        return False
    import jax

    return any(device.platform == "gpu" for device in jax.devices())


def code_files() -> list[Path]:
    return sorted(Path(__file__).parent.glob("*.py"))


def takes(recipe: Recipe) -> bool:
    return isinstance(recipe, Trained)


def slots() -> int:
    return SLOTS


@contextlib.contextmanager
def training(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs as lanes of batches; `train`, which trains a single run, is not used.

    Yields:
        What comes of every run, as it ends; and a function that says what is under way.
    """
    os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
    from stages.train.executors.lanes.batches import Batches

    batches = Batches(runs, images, labels)
    yield batches.results(), batches.under_way
