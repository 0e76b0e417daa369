"""Ways to make a training step faster, each beside the step of the pipeline: what was kept, and what was left.

`python -m benchmarks.tried` rewrites benchmarks/TRIED.md, on an idle machine in some minutes.
"""

import dataclasses
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: what is compared are ways to use one core of this processor.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.measure import SHAPE, layer_products, peak
from benchmarks.process import processor_name
from benchmarks.summary import image_flops
from stages import files, params, records, terminal
from stages.params import Network
from stages.train.network import build_network
from stages.train.run import _prepare_device
from stages.train.tensorflow_passes import FusedAdam, Pass, batch_pass

REPORT = Path(__file__).with_name("TRIED.md")
STEPS = {"mlp_reference": 400, "mlp_tuned": 200, "cnn_reference": 40, "cnn_tuned": 40}
REPEATS = 5

STEP, CONVOLUTIONS, DENSE = "a step", "convolutions", "dense layers"
# The parts of a step, and the operations of TensorFlow that they are made of.
PARTS = {
    CONVOLUTIONS: ["Conv2D"],
    DENSE: ["MatMul"],
    "max pooling": ["MaxPool"],
    "random numbers": ["StatelessRandomUniform"],
    "masks and ReLU backward": ["SelectV2", "ReluGrad", "GreaterEqual"],
    "Adam": ["ResourceApplyAdam"],
}


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
        "left: other random numbers are other results, so the whole study would have to be trained anew",
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


def kind(event: str) -> str | None:
    """The part of a step that an event of TensorFlow's profiler, "name of a node:operation", belongs to."""
    operation = event.rpartition(":")[2]
    return next((part for part, names in PARTS.items() if any(name in operation for name in names)), None)


def parts_of_step(recipe: Network, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Milliseconds of a step of the pipeline's pass that each of `PARTS` takes, and the whole step as `STEP`."""
    model = build_network(**recipe.model_dump(include=SHAPE), seed=0)
    run = WAYS[KEPT].prepare(model, images, labels, recipe.batch_size)
    order = np.arange(len(images))
    run(order)
    steps = len(images) / recipe.batch_size
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        started = time.perf_counter()
        run(order)
        whole = time.perf_counter() - started
        tf.profiler.experimental.stop()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    milliseconds = dict.fromkeys(PARTS, 0.0) | {STEP: 1000 * whole / steps}
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            if (part := kind(plane.event_metadata[event.metadata_id].name)) is not None:
                milliseconds[part] += event.duration_ps / 1e9 / steps
    return milliseconds


def where_a_step_goes(recipe: Network, milliseconds: dict[str, float], highest: float) -> str:
    """A row of the first table, without the variant's name."""
    step, products = milliseconds[STEP], milliseconds[CONVOLUTIONS] + milliseconds[DENSE]
    model = build_network(**recipe.model_dump(include=SHAPE), seed=0)
    reached = recipe.batch_size * image_flops(layer_products(model)) / products / 1e6
    shares = [f"{100 * milliseconds[part] / step:.0f} %" for part in PARTS]
    rest = f"{100 * (1 - sum(milliseconds[part] for part in PARTS) / step):.0f} %"
    return f"{step:.2f} | {' | '.join(shares)} | {rest} | {reached:.0f} ({100 * reached / highest:.0f} %)"


def page(study: params.Params, images: np.ndarray, labels: np.ndarray) -> str:
    ratios: dict[str, dict[str, str]] = {name: {} for name in WAYS}
    rows = ""
    highest = peak(threads=1)["float32"]
    for variant, steps in STEPS.items():
        recipe = study.recipe(variant)
        assert isinstance(recipe, Network)
        count = steps * recipe.batch_size
        print(variant, flush=True)
        milliseconds = parts_of_step(recipe, images[:count], labels[:count])
        rows += f"| {variant} | {where_a_step_goes(recipe, milliseconds, highest)} |\n"
        seconds = compare(recipe, images[:count], labels[:count])
        for name, each in seconds.items():
            beside = [value / kept for value, kept in zip(each, seconds[KEPT], strict=True)]
            ratios[name][variant] = f"{statistics.median(beside):.2f} ({min(beside):.2f} … {max(beside):.2f})"
    table = "".join(
        f"| {name} | {' | '.join(ratios[name].get(variant, '') for variant in STEPS)} | {way.outcome} |\n"
        for name, way in WAYS.items()
    )
    return f"""\
# What was tried to train faster

Written by `python -m benchmarks.tried`. One process on one core, as a worker has it, on
{", ".join(f"{steps} steps of {variant}" for variant, steps in STEPS.items())}. {processor_name()};
Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}.
What all seeds side by side gain is in [README.md](README.md).

## Where a step goes

The pipeline's pass under TensorFlow's profiler. The last column is what the matrix products of convolutions and dense
layers reach, and its share of what products of large square matrices reach on this core, {highest:.0f} GFLOP/s.

| variant | a step, ms | {" | ".join(PARTS)} | the rest | GFLOP/s of the products |
| --- | --- | {"--- | " * len(PARTS)}--- | --- |
{rows}
## Other ways

Each way in turn, {REPEATS} times. Seconds of a pass as a multiple of the pipeline's: the median, with the lowest and
the highest. Above 1 is slower.

| way | {" | ".join(STEPS)} | outcome |
| --- | {"--- | " * len(STEPS)}--- |
{table}"""


@terminal.command
def main() -> None:
    terminal.take_no_arguments("benchmarks.tried", __doc__)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _prepare_device()
    images, labels = records.read_images(records.TRAIN)
    files.write_bytes(REPORT, page(params.load(), images, labels).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
