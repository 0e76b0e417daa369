"""Measurements, each in a separate process, so that none has the threads or the memory of another.

`python -m benchmarks.measure plain '{"variant": "mlp_tuned", …}'` ends with one line of JSON.
"""

import dataclasses
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import joblib
import numpy as np

from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.recipes.network import Recipe as Network
from stages.recipes.shared.training import backend
from stages.split.stage import validation_indices
from stages.study import params, paths
from stages.study.params import Params
from stages.study.provenance.environments import installed_versions
from stages.study.records.splits import read_classes, read_images
from stages.tracking.publisher import Publisher
from stages.train.executors import processes
from stages.train.run import Failed, Run, Trained, train_run

WARM_UP_IMAGES = 1000
MATRIX = 2048  # rows and columns
PEAK_SECONDS = 2.0
NOT_PLAIN = {"optimizer", "schedule", "label_smoothing", "average", "augment"}  # what `plain` does not do

Measured = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """Training images uint8 [n, height, width] or [n, height, width, 3], their labels [n], and how many classes."""

    images: np.ndarray
    labels: np.ndarray
    classes: int

    def first(self, count: int) -> "Data":
        return Data(self.images[:count], self.labels[:count], self.classes)


class EpochClock(PosixPath):
    """The file in which a run keeps its epoch, here a line for each, with the time at which it ended."""

    def write_text(self, *_: Any, **__: Any) -> int:
        with self.open("a") as file:
            return file.write(f"{time.time()}\n")

    def unlink(self, missing_ok: bool = False) -> None:
        """Keep what a finished run would remove."""


def plain(variant: str, images: int, epochs: int) -> Measured:
    """One seed in a notebook's way: Keras's `fit` and Adam on float arrays, with as many threads as TensorFlow takes.

    Returns:
        start_seconds: imports and a small first run, which is not counted; runs: "seconds", and the seconds of each of
        its "epochs"; driver_mib: peak memory of this process; products: as `layer_products`.

    Raises:
        UserError: the recipe has what is not done here.
    """
    started = time.perf_counter()
    study, recipe, data = _data(variant, images, epochs=epochs)
    if more := sorted(NOT_PLAIN & recipe.key_fields().keys()):
        raise UserError(f"{variant} should be trained as in a notebook, which does not have its {', '.join(more)}")
    _plain_run(recipe, study.split.dev_fraction, data.first(WARM_UP_IMAGES))
    start_seconds = time.perf_counter() - started
    run = _plain_run(recipe, study.split.dev_fraction, data)
    products = layer_products(plain_network(recipe, data.images.shape[1:], data.classes, seed=0))
    return {
        "start_seconds": start_seconds,
        "runs": [run],
        "products": products,
        "driver_mib": _mib(resource.RUSAGE_SELF),
    }


def _plain_run(recipe: Network, dev_fraction: float, data: Data) -> Measured:
    import keras

    keras.utils.set_random_seed(0)
    images = (data.images.astype("float32") / 255).reshape(-1, *plain_shape(recipe, data.images.shape[1:]))
    labels = data.labels
    validation, callbacks = None, []
    if recipe.dev_split:
        dev = validation_indices(len(images), dev_fraction, 0)
        validation = images[dev], labels[dev]
        images, labels = np.delete(images, dev, axis=0), np.delete(labels, dev)
    if recipe.patience:
        stop = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=recipe.restore_best)
        callbacks.append(stop)
    if recipe.decay:

        def rate(epoch: int) -> float:
            return float(recipe.learning_rates()(epoch, 1))

        callbacks.append(keras.callbacks.LearningRateScheduler(rate))
    ends: list[float] = []
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())))
    started = time.perf_counter()
    model = plain_network(recipe, data.images.shape[1:], data.classes, seed=0)
    model.compile(
        keras.optimizers.Adam(recipe.learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        images,
        labels,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    )
    return {"seconds": time.perf_counter() - started, "epochs": np.diff([started, *ends]).tolist()}


def plain_network(recipe: Network, shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """The study's layers behind a notebook's input: float [n, height, width, channels] or, without convolutions, flat.

    Args:
        recipe: of the network.
        shape: of an image of the data set.
        classes: how many it has.
        seed: of the weights.
    """
    import keras

    from stages.recipes.shared.models import layer_seeds

    built = recipe.build(shape, classes, layer_seeds(seed))
    dropped = {"scale", "channel"} if recipe.filters else {"scale", "flatten"}
    layers = [layer for layer in built.layers if layer.name not in dropped]
    return keras.Sequential([keras.layers.Input(plain_shape(recipe, shape)), *layers])


def plain_shape(recipe: Network, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image as a notebook gives it to this network."""
    return (*shape, 1)[:3] if recipe.filters else (math.prod(shape),)


def layer_products(model: Any) -> list[int]:
    """Multiplications that each dense and convolutional layer takes for one image, forward."""
    # A kernel is used once for each place of its output; a dense layer's has one.
    return [
        int(np.prod(layer.output.shape[1:-1], dtype=int) * np.prod(layer.kernel.shape, dtype=int))
        for layer in model.layers
        if hasattr(layer, "kernel")
    ]


def pipeline(variant: str, images: int, epochs: int, precision: str) -> Measured:
    """A seed for each core side by side, in the workers and by the function of the train stage.

    Returns:
        As `plain`, without products, and worker_mib: peak memory of the largest worker.
    """
    started = time.perf_counter()
    study, recipe, data = _data(variant, images, epochs=epochs, precision=precision)

    def train(these: Data) -> list[Measured]:
        runs = []
        for seed in range(processes.slots()):
            dev = validation_indices(len(these.labels), study.split.dev_fraction, seed) if recipe.dev_split else None
            versions = installed_versions(backend())
            runs.append(Run(variant, recipe, seed, data.classes, dev, "processes", digests={}, versions=versions))
        with processes.training(runs, these.images, these.labels, clocked) as (results, _):
            return [_times(result) for result in results]

    # Every worker imports TensorFlow, and does what only the first run of a process needs.
    train(data.first(WARM_UP_IMAGES))
    start_seconds = time.perf_counter() - started
    runs = train(data)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    return {
        "start_seconds": start_seconds,
        "runs": runs,
        "driver_mib": _mib(resource.RUSAGE_SELF),
        "worker_mib": _mib(resource.RUSAGE_CHILDREN),
    }


def clocked(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """`train_run`, whose facts tell also at what times the epochs ended: "ends"."""
    assert progress is not None  # it is None on other machines only
    clock = EpochClock(progress)
    result = train_run(run, images, labels, clock)
    if isinstance(result, Failed):
        return result
    return dataclasses.replace(result, facts={**result.facts, "ends": [*map(float, clock.read_text().split())]})


def _times(result: Trained | Failed) -> Measured:
    if isinstance(result, Failed):
        raise UserError(f"{result.run.name} failed: {result.reason}")
    ends = np.diff([result.facts["started"], *result.facts["ends"]]).tolist()
    return {"seconds": result.facts["seconds"], "epochs": ends}


def peak(threads: int) -> Measured:
    """The fastest product of two square matrices, GFLOP/s, on so many threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    reached = {}
    for precision in ("float32", "bfloat16"):
        matrix = tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), seed=(0, 0)), precision)
        best, until = math.inf, time.perf_counter() + PEAK_SECONDS
        while (started := time.perf_counter()) < until:
            tf.linalg.matmul(matrix, matrix).numpy()
            best = min(best, time.perf_counter() - started)
        reached[precision] = 2 * MATRIX**3 / best / 1e9
    return reached


def publish() -> Measured:
    """Publish every run of the study in the current folder to an MLflow that knows none of them.

    Returns:
        start_seconds: importing MLflow and creating the database; seconds: for all the runs.
    """
    study = params.load()
    publisher = Publisher(study)
    started = time.perf_counter()
    publisher.publish_variants([])
    ready = time.perf_counter()
    published = publisher.publish_variants(list(study.variants))
    if published < sum(recipe.seeds for recipe in study.variants.values()):
        raise UserError(f"MLflow should have taken every run of the study, and took {published}")
    return {"start_seconds": ready - started, "seconds": time.perf_counter() - ready}


def network_of(study: Params, variant: str) -> Network:
    """The recipe of a variant.

    Raises:
        UserError: there is no such variant, or it is no network.
    """
    recipe = study.recipe(variant)
    if not isinstance(recipe, Network):
        raise UserError(f"{variant} should be of the family network to be measured here, received {recipe.family}")
    return recipe


def _data(variant: str, images: int, **changes: Any) -> tuple[Params, Network, Data]:
    """The study, the variant's recipe with changes, and the first training images."""
    study = params.load()
    recipe = network_of(study, variant).model_copy(update=changes)
    data = Data(*read_images(paths.TRAIN), len(read_classes(paths.TRAIN)))
    return study, recipe, data.first(images)


def _mib(whose: int) -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(whose).ru_maxrss * unit / 2**20


@console.command
def main() -> None:
    measurements: dict[str, Callable[..., Measured]] = {"plain": plain, "pipeline": pipeline}
    measurements |= {"peak": peak, "publish": publish}
    print(json.dumps(measurements[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
