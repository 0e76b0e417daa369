"""A network recipe as a Keras model, its randomness owned by the run's seed."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from stages.records import CLASSES

INITIALIZERS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "glorot_normal": keras.initializers.GlorotNormal,
    "normal": lambda seed: keras.initializers.RandomNormal(stddev=0.05, seed=seed),
}


def build_network(
    *,
    filters: Sequence[int],
    pool: Sequence[bool],
    conv_dropout: Sequence[float],
    units: Sequence[int],
    dropout: float,
    initializer: str,
    precision: str,
    seed: int,
) -> keras.Sequential:
    """Convolutions, dense layers and a softmax over the ten classes, from grey values 0–255.

    Keras draws the seeds of initialisers and dropout from Python's global generator, which other threads of a worker
    share; here every layer that draws gets a seed of its own, so that `seed` alone decides.

    Args:
        filters: of each 3×3 ReLU convolution, without padding.
        pool: whether 2×2 max pooling follows it.
        conv_dropout: the dropout rate behind it and its pooling; 0 for no layer.
        units: of each dense ReLU layer.
        dropout: the rate behind each of them; 0 for no layer.
        initializer: of the kernels of all layers but the output's, which has Keras's default: a key of `INITIALIZERS`.
        precision: the dtype policy of the hidden layers: "float32" or "mixed_bfloat16".
        seed: of the weights and of dropout.

    Returns:
        A model from uint8 [n, 28, 28] to probabilities float32 [n, 10].
    """
    seeds = _layer_seeds(seed)
    start = INITIALIZERS[initializer]
    layers = keras.layers
    stack = [layers.Input((28, 28), dtype="uint8", name="pixels")]
    stack.append(layers.Rescaling(1 / 255, dtype="float32", name="scale"))
    if filters:
        stack.append(layers.Reshape((28, 28, 1), name="channel"))
    for i, (count, pooled, rate) in enumerate(zip(filters, pool, conv_dropout, strict=True), start=1):
        kernel = start(seed=next(seeds))
        conv = layers.Conv2D(
            count, 3, activation="relu", kernel_initializer=kernel, dtype=precision, name=f"convolution_{i}"
        )
        stack.append(conv)
        if pooled:
            stack.append(layers.MaxPooling2D(dtype=precision, name=f"pool_{i}"))
        if rate:
            stack.append(layers.Dropout(rate, seed=next(seeds), dtype=precision, name=f"convolution_dropout_{i}"))
    stack.append(layers.Flatten(dtype=precision, name="flatten"))
    for i, count in enumerate(units, start=1):
        kernel = start(seed=next(seeds))
        stack.append(
            layers.Dense(count, activation="relu", kernel_initializer=kernel, dtype=precision, name=f"dense_{i}")
        )
        if dropout:
            stack.append(layers.Dropout(dropout, seed=next(seeds), dtype=precision, name=f"dropout_{i}"))
    kernel = keras.initializers.GlorotUniform(seed=next(seeds))
    stack.append(
        layers.Dense(CLASSES, activation="softmax", kernel_initializer=kernel, dtype="float32", name="probabilities")
    )
    return keras.Sequential(stack, name="network")


def _layer_seeds(seed: int) -> Iterator[int]:
    # Key 0 of the run's seed; the batch orders of epoch k have key k + 1.
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    while True:
        yield int(generator.integers(2**31))
