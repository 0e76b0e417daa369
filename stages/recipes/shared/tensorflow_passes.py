"""Passes over the data as one TensorFlow function each.

Keras's `fit` starts every batch from Python and feeds it through helper threads, which compete for the core when seeds
train side by side. Here the data are constants of the graph, as uint8, and a pass is a loop inside the graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf


class Pass(Protocol):
    """A pass over the images in an order, int64 [n], with a learning rate for each step, float32 [steps]."""

    def __call__(self, order: np.ndarray, rates: np.ndarray | None = None) -> None: ...


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with TensorFlow's fused update: the same formula, one pass over memory instead of twelve."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.constant(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.constant(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


def batch_pass(
    step: Callable[[Any], Any],
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    *,
    augment: Callable[[Any], Any] | None = None,
    learning_rate: Any = None,
) -> Pass:
    """A pass that calls `step` with the images in a given order, batch by batch.

    Args:
        step: `train_step` or `test_step` of a compiled Keras model, which updates its metrics itself.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        batch_size: the number of images in a step; the last batch of a pass has the remaining images.
        augment: applied to each batch of images, or None.
        learning_rate: the optimizer's variable, set in each step where the pass is given a rate for each step.
    """
    x, y = tf.constant(images), tf.constant(labels)

    @tf.function(jit_compile=False, autograph=False)
    def run(order: tf.Tensor, rates: tf.Tensor | None) -> None:
        def run_batch(batch: Any, indices: tf.Tensor) -> None:
            if rates is not None:
                learning_rate.assign(rates[batch])
            batch_images = tf.gather(x, indices)
            step((batch_images if augment is None else augment(batch_images), tf.gather(y, indices)))

        def body(batch: tf.Tensor) -> Sequence[tf.Tensor]:
            indices = order[batch * batch_size : (batch + 1) * batch_size]
            indices.set_shape([batch_size])
            run_batch(batch, indices)
            return (batch + 1,)

        full, remaining = divmod(order.shape[0], batch_size)
        if full:
            tf.while_loop(lambda batch: batch < full, body, [tf.constant(0)], parallel_iterations=1)
        if remaining:
            run_batch(full, order[full * batch_size :])

    def run_pass(order: np.ndarray, rates: np.ndarray | None = None) -> None:
        run(tf.constant(order.astype(np.int32)), None if rates is None else tf.constant(rates))

    return run_pass
