"""One run, as a worker executes it: on one thread, with all randomness from its seed."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.recipes.shared.recipe import Recipe, Report
from stages.terminal import native_stderr_hidden


@dataclass(frozen=True)
class Result:
    """What `Fitted` says, with the model as the bytes of a Keras archive."""

    model: bytes
    curve: list[dict[str, Any]]
    facts: dict[str, float | int | None]


def train(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    dev: np.ndarray | None,
    seed: int,
    report: Report,
) -> Result:
    """Train one run; the arguments are those of `Recipe.fit`."""
    with native_stderr_hidden():
        import keras  # here, so that a driver that only hands out runs needs no TensorFlow
        from threadpoolctl import threadpool_limits

        from stages.recipes.shared.saved import model_bytes

        prepare()
    keras.backend.clear_session()
    with threadpool_limits(1):
        fitted = recipe.fit(images, labels, classes, dev=dev, seed=seed, report=report)
    return Result(model_bytes(fitted.model), fitted.curve, fitted.facts)


def backend() -> str:
    """The Keras backend that workers will use, without importing Keras."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def prepare() -> None:
    """Settle threads and determinism of this process before its first operation."""
    if backend() != "tensorflow":
        return
    import tensorflow as tf

    # Every run compiles passes of its own, which TensorFlow takes for a loop that forgot to reuse one.
    tf.get_logger().setLevel("ERROR")
    # Runs go side by side, one thread each; the number of threads also decides the last bits of a result.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    tf.config.set_visible_devices([], "GPU")  # a GPU trains many seeds at once, through JAX
    tf.config.list_logical_devices()  # starts the runtime
