"""One run as a worker executes it: on one thread, with all randomness from its seed."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.recipes.shared.recipe import EpochCallback, Recipe


@dataclass(frozen=True)
class SavedResult:
    """A `FitResult` with its model as bytes.

    Attributes:
        model: the bytes of a Keras archive.
        curve: as `FitResult.curve`.
        facts: as `FitResult.facts`.
    """

    model: bytes
    curve: list[dict[str, Any]]
    facts: dict[str, float | int | None]


def train(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    validation: np.ndarray | None,
    seed: int,
    on_epoch: EpochCallback,
) -> SavedResult:
    """Train one run.

    Args:
        recipe: of the variant. The other arguments are those of `Recipe.fit`.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        classes: the number of classes.
        validation: the sorted indices of the validation split, or None.
        seed: decides all randomness.
        on_epoch: called after every epoch.

    Raises:
        UserError: this recipe can't be trained on these images.
    """
    with native_stderr_hidden():
        import keras  # here, so that a driver that only hands out runs needs no TensorFlow
        from threadpoolctl import threadpool_limits

        from stages.recipes.shared.saved import model_bytes

        prepare()
    keras.backend.clear_session()
    with threadpool_limits(1):
        result = recipe.fit(images, labels, classes, validation=validation, seed=seed, on_epoch=on_epoch)
    return SavedResult(model_bytes(result.model), result.curve, result.facts)


def backend() -> str:
    """The Keras backend that workers will use, without importing Keras."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def prepare() -> None:
    """Set the threads and the determinism of this process before its first operation."""
    if backend() != "tensorflow":
        return
    import tensorflow as tf

    # Every run compiles passes of its own; TensorFlow warns of that as if a function were retraced by mistake.
    tf.get_logger().setLevel("ERROR")
    # Runs are trained side by side, one thread each; the number of threads also decides the last bits of a result.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    tf.config.set_visible_devices([], "GPU")  # a GPU trains many seeds at once, through JAX
    tf.config.list_logical_devices()  # starts the runtime
