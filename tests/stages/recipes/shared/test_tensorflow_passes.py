from typing import Any

import keras
import numpy as np
import pytest

from stages.recipes.shared.tensorflow_passes import FusedAdam, batch_pass

pytestmark = pytest.mark.usefixtures("tensorflow_ready")


def test_the_fused_adam_follows_keras_adam() -> None:
    generator = np.random.default_rng(0)
    start = generator.normal(size=(4, 3)).astype(np.float32)
    ours, theirs = keras.Variable(start), keras.Variable(start)
    fused, adam = FusedAdam(0.01), keras.optimizers.Adam(0.01)
    for step in range(12):
        if step == 6:
            fused.learning_rate = adam.learning_rate = 0.002
        gradient = keras.ops.convert_to_tensor(generator.normal(size=(4, 3)).astype(np.float32) * 10.0 ** (-step % 5))
        fused.apply([gradient], [ours])
        adam.apply([gradient], [theirs])
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-5, atol=1e-6)
    assert np.abs(ours.numpy() - start).max() > 0.01


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (5, [4, 1])])
def test_a_pass_shows_every_image_once_in_its_order_with_its_label(count: int, sizes: list[int]) -> None:
    import tensorflow as tf

    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(count) + 100
    labels = np.arange(count, dtype=np.uint8)
    shown = tf.Variable(tf.zeros([0, 2], tf.int32), shape=[None, 2])
    batches = tf.Variable(tf.zeros([0], tf.int32), shape=[None])

    def step(batch: tuple[Any, Any]) -> None:
        x, y = batch
        pairs = tf.stack([tf.cast(x[:, 0, 0], tf.int32), tf.cast(y, tf.int32)], axis=1)
        shown.assign(tf.concat([shown, pairs], axis=0))
        batches.assign(tf.concat([batches, [tf.shape(y)[0]]], axis=0))

    order = np.random.default_rng(0).permutation(count)
    batch_pass(step, images, labels, batch_size=4)(order)
    np.testing.assert_array_equal(shown.numpy(), np.stack([order + 100, order], axis=1))
    assert batches.numpy().tolist() == sizes


def test_a_pass_shows_the_augmented_images_with_the_rate_of_each_step() -> None:
    import tensorflow as tf

    rate = keras.Variable(0.0)
    seen: list[tuple[int, float]] = []

    def step(batch: tuple[Any, Any]) -> None:
        tf.py_function(lambda x, now: seen.append((int(x), float(now))), [batch[0][0, 0, 0], rate.value], [])

    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    show = batch_pass(step, images, np.zeros(5, np.uint8), 2, augment=lambda shown: 200 - shown, learning_rate=rate)
    show(np.arange(5), np.array([0.5, 0.25, 0.125], np.float32))
    assert seen == [(200, 0.5), (198, 0.25), (196, 0.125)]
