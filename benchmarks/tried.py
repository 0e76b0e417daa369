"""Ways to make a training step faster, each beside the step of the pipeline: what was kept, and what was left.

`python -m benchmarks.tried` rewrites benchmarks/TRIED.md, on an idle machine in some minutes.
"""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: what is compared are ways to use one core of this processor.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
import tensorflow as tf

from benchmarks.measure import SHAPE, layer_products, peak
from benchmarks.process import processor_name
from stages import params, records
from stages.params import Network
from stages.train.network import build_network
from stages.train.run import _prepare_device
from stages.train.tensorflow_passes import FusedAdam, Pass, batch_pass

REPORT = Path(__file__).with_name("TRIED.md")
STEPS = {"mlp_reference": 400, "mlp_tuned": 200, "cnn_reference": 40, "cnn_tuned": 40}
REPEATS = 5


class ByteDropout(keras.layers.Dropout):
    """Dropout that spends one random byte on a value instead of four; a rate is rounded to 1/256."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        shape = tf.shape(inputs)
        count = tf.reduce_prod(shape)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform([(count + 3) // 4], seed, minval=None, maxval=None, dtype=tf.int32)
        drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], shape)
        return tf.where(drawn >= round(256 * self.rate), inputs / (1 - self.rate), tf.zeros_like(inputs))


class UnrolledConvolution(keras.layers.Conv2D):
    """A convolution as one matrix product of the nine shifted images side by side."""

    def call(self, inputs: Any) -> Any:
        rows, columns = inputs.shape[1] - 2, inputs.shape[2] - 2
        shifted = [inputs[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        kernel = tf.reshape(self.kernel, (-1, self.filters))
        patches = tf.reshape(tf.concat(shifted, axis=-1), (-1, kernel.shape[0]))
        return tf.nn.relu(tf.reshape(patches @ kernel, (-1, rows, columns, self.filters)) + self.bias)


Prepare = Callable[[keras.Sequential, np.ndarray, np.ndarray, int], Pass]
Replace = Callable[[keras.layers.Layer], keras.layers.Layer]


@dataclasses.dataclass(frozen=True)
class Way:
    """How to train.

    prepare: from a model, images, labels and a batch size to a pass over them.
    outcome: what came of it, and why.
    convolutions: True for networks with them only, False for those without.
    """

    prepare: Prepare
    outcome: str
    convolutions: bool | None = None


def replacing(kind: type[keras.layers.Layer], make: Replace) -> Replace:
    """A function that copies layers, but makes another of those of a kind."""
    return lambda layer: make(layer) if isinstance(layer, kind) else type(layer).from_config(layer.get_config())


# What is put in the place of which layers.
LAYERS = {
    "unrolled": replacing(keras.layers.Conv2D, lambda layer: UnrolledConvolution.from_config(layer.get_config())),
    "bytes": replacing(keras.layers.Dropout, lambda layer: ByteDropout.from_config(layer.get_config())),
    "none": replacing(keras.layers.Dropout, lambda layer: keras.layers.Activation("linear", name=layer.name)),
}


def with_layers(model: keras.Sequential, layers: Replace) -> keras.Sequential:
    """The same network with other layers."""
    return keras.models.clone_model(model, clone_function=layers)


def own_pass(
    layers: str | None = None,
    optimizer: type[keras.optimizers.Adam] = FusedAdam,
    step: Callable[[Any], Any] = lambda step: step,
) -> Prepare:
    """The pipeline's pass with other layers, another Adam, or something around the step of a batch."""

    def prepare(model: keras.Sequential, images: np.ndarray, labels: np.ndarray, batch_size: int) -> Pass:
        if layers:
            model = with_layers(model, LAYERS[layers])
        model.compile(optimizer(), loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return batch_pass(step(model.train_step), images, labels, batch_size)

    return prepare


def keras_fit(model: keras.Sequential, images: np.ndarray, labels: np.ndarray, batch_size: int) -> Pass:
    model.compile(
        keras.optimizers.Adam(),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
        steps_per_execution=50,
    )

    def run(order: np.ndarray) -> None:
        model.fit(images[order], labels[order], batch_size=batch_size, shuffle=False, verbose=0)

    return run


KEPT = "the pipeline's pass"
NO_DROPOUT = "no dropout at all"
WAYS = {
    KEPT: Way(own_pass(), "kept"),
    "Keras's `fit`, 50 steps at a time, on one thread": Way(
        keras_fit, "replaced by the pass: `fit` starts batches from Python and feeds them through threads of its own"
    ),
    "Keras's Adam": Way(own_pass(optimizer=keras.optimizers.Adam), "replaced by one kernel for each weight array"),
    "XLA": Way(
        own_pass(step=lambda step: tf.function(step, jit_compile=True)),
        "left: with deterministic operations it refuses max pooling",
        False,
    ),
    "a convolution as one product of nine shifted images": Way(
        own_pass("unrolled"),
        "left: moving the images costs more than the product gains",
        True,
    ),
    "dropout from random bytes": Way(
        own_pass("bytes"),
        "left: a saved model would need a layer class of ours to be read",
    ),
    NO_DROPOUT: Way(
        own_pass("none"),
        "another recipe: all that faster random numbers could gain",
    ),
}


def compare(recipe: Network, images: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Seconds of a pass each way, one after the other in each repeat, after a pass that is not counted."""
    passes = {}
    for name, way in WAYS.items():
        if way.convolutions not in (None, bool(recipe.filters)):
            continue
        model = build_network(**recipe.model_dump(include=SHAPE), seed=0)
        passes[name] = way.prepare(model, images, labels, recipe.batch_size)
    order = np.random.default_rng(0).permutation(len(images))
    for run in passes.values():
        run(order)
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(REPEATS):
        for name, run in passes.items():
            started = time.perf_counter()
            run(order)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def convolution_seconds(recipe: Network) -> tuple[float, int]:
    """Seconds of the last convolution in a step, forward and backward, and its floating-point operations."""
    model = build_network(**recipe.model_dump(include=SHAPE), seed=0)
    layer = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    x = tf.random.stateless_normal((recipe.batch_size, *layer.input.shape[1:]), seed=(0, 0))

    @tf.function(jit_compile=False, autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, *layer.trainable_variables])

    seconds = []
    for _ in range(10 * REPEATS):
        started = time.perf_counter()
        step()[0].numpy()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), recipe.batch_size * 2 * 3 * layer_products(model)[len(recipe.filters) - 1]


def page(study: params.Params, images: np.ndarray, labels: np.ndarray) -> str:
    ratios: dict[str, dict[str, str]] = {name: {} for name in WAYS}
    parts = ""
    highest = peak(threads=1)["float32"]
    for variant, steps in STEPS.items():
        recipe = study.recipe(variant)
        assert isinstance(recipe, Network)
        count = steps * recipe.batch_size
        print(variant, flush=True)
        seconds = compare(recipe, images[:count], labels[:count])
        for name, each in seconds.items():
            beside = [value / kept for value, kept in zip(each, seconds[KEPT], strict=True)]
            ratios[name][variant] = f"{statistics.median(beside):.2f} ({min(beside):.2f} … {max(beside):.2f})"
        milliseconds = 1000 * statistics.median(seconds[KEPT]) / steps
        dropout = 1 - statistics.median(seconds[NO_DROPOUT]) / statistics.median(seconds[KEPT])
        line = f"| {variant} | {milliseconds:.2f} | {100 * dropout:.0f} % |"
        if recipe.filters:
            own, operations = convolution_seconds(recipe)
            reached = operations / own / 1e9
            share = 100_000 * own / milliseconds
            line += f" {share:.0f} % | {reached:.0f} ({100 * reached / highest:.0f} % of {highest:.0f}) |\n"
        else:
            line += " | |\n"
        parts += line
    table = "".join(
        f"| {name} | {' | '.join(ratios[name].get(variant, '') for variant in STEPS)} | {way.outcome} |\n"
        for name, way in WAYS.items()
    )
    return f"""\
# What was tried to train faster

Written by `python -m benchmarks.tried`. One process on one core, as a worker has it; each way in turn, {REPEATS} times,
on {", ".join(f"{steps} steps of {variant}" for variant, steps in STEPS.items())}. {processor_name()};
Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}.
What all seeds side by side gain is in [README.md](README.md).

## Where a step goes

The last convolution was timed alone: forward, backward for its kernel and for its input. Its GFLOP/s stand beside those
of products of large square matrices.

| variant | a step, ms | dropout | last convolution | its GFLOP/s |
| --- | --- | --- | --- | --- |
{parts}
## Other ways

Seconds of a pass as a multiple of the pipeline's: the median of {REPEATS}, with the lowest and the highest. Above 1 is
slower.

| way | {" | ".join(STEPS)} | outcome |
| --- | {"--- | " * len(STEPS)}--- |
{table}"""


@records.command
def main() -> None:
    records.take_no_arguments("benchmarks.tried", __doc__)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _prepare_device()
    images, labels = records.read_images(records.TRAIN)
    records.write_bytes(REPORT, page(params.load(), images, labels).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
