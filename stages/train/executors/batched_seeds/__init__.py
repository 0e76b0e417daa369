"""All seeds of a variant trained as one batch on a GPU, through JAX's vmap. Variants with equal programs share a batch.

Each run occupies a lane of the batch: an index of the first axis of all arrays. The last bits of a run depend on the
number of lanes at the start (`lanes` of run.json), on when other lanes stop, after which the batch may become narrower,
and on the kernels that XLA's autotuning chooses in the process. So a repeated run is the same in distribution, not to
the bit.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import Recipe
from stages.train.executors.interface import Execution
from stages.train.run import Run, Train

NAME = "lanes"  # in STUDY_EXECUTOR and the keys of runs
SLOTS = 32  # fewer seeds at a time would leave a GPU idle


@functools.cache
def sees_gpu() -> bool:
    """Whether JAX is installed and has a GPU."""
    if importlib.util.find_spec("jax") is None:
        return False
    import jax

    return any(device.platform == "gpu" for device in jax.devices())


def code_files() -> list[Path]:
    """The files that decide bits beside stages/recipes."""
    return sorted(Path(__file__).parent.glob("*.py"))


def takes(recipe: Recipe) -> bool:
    return isinstance(recipe, KerasRecipe)


def slots() -> int:
    return SLOTS


@contextlib.contextmanager
def training(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs as batched seeds. `train`, which trains a single run, is not used.

    Yields:
        An iterator over the results of the runs, as they end; and a function that describes what is under way.
    """
    os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
    from stages.train.executors.batched_seeds.batches import Batches

    batches = Batches(runs, images, labels)
    yield batches.results(), batches.under_way
