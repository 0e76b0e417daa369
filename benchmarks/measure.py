"""What is measured in a process of its own, so that no measurement inherits another's threads or memory.

`python -m benchmarks.measure plain '{"variant": "mlp_tuned", …}'` ends with one line of JSON.
"""

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import PosixPath
from typing import Any

import joblib
import numpy as np

from stages import params, records, terminal, tracking
from stages.errors import StudyError
from stages.params import Network
from stages.split.__main__ import dev_indices
from stages.train import schedule
from stages.train.run import Failed, Run, installed_versions, train_run

WARM_UP_IMAGES = 1000
MATRIX = 2048  # rows and columns
PEAK_SECONDS = 2.0
SHAPE = {"filters", "pool", "conv_dropout", "units", "dropout", "initializer", "precision"}

Measured = dict[str, Any]


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
    """
    started = time.perf_counter()
    study, recipe, x, y = _data(variant, images, epochs=epochs)
    _plain_run(recipe, study.split.dev_fraction, x[:WARM_UP_IMAGES], y[:WARM_UP_IMAGES])
    start_seconds = time.perf_counter() - started
    run = _plain_run(recipe, study.split.dev_fraction, x, y)
    products = layer_products(plain_network(recipe, seed=0))
    return {
        **{"start_seconds": start_seconds, "runs": [run], "products": products},
        "driver_mib": _mib(resource.RUSAGE_SELF),
    }


def _plain_run(recipe: Network, dev_fraction: float, images: np.ndarray, labels: np.ndarray) -> Measured:
    import keras

    keras.utils.set_random_seed(0)
    images = images.astype("float32") / 255
    images = images.reshape(len(images), 28, 28, 1) if recipe.filters else images.reshape(len(images), 784)
    validation, callbacks = None, []
    if recipe.dev_split:
        dev = dev_indices(len(images), dev_fraction, 0)
        validation = images[dev], labels[dev]
        images, labels = np.delete(images, dev, axis=0), np.delete(labels, dev)
    if recipe.patience:
        stop = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=recipe.restore_best)
        callbacks.append(stop)
    if decay := recipe.decay:

        def rate(epoch: int) -> float:
            return recipe.learning_rate * math.exp(decay.rate * min(0, decay.start - epoch))

        callbacks.append(keras.callbacks.LearningRateScheduler(rate))
    ends: list[float] = []
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())))
    started = time.perf_counter()
    model = plain_network(recipe, seed=0)
    model.compile(
        keras.optimizers.Adam(recipe.learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        *(images, labels),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    )
    return {"seconds": time.perf_counter() - started, "epochs": np.diff([started, *ends]).tolist()}


def plain_network(recipe: Network, seed: int) -> Any:
    """The study's layers behind a notebook's input: float [n, 28, 28, 1] before convolutions, else float [n, 784]."""
    import keras

    from stages.train.network import build_network

    built = build_network(**recipe.model_dump(include=SHAPE), seed=seed)
    dropped = {"scale", "channel"} if recipe.filters else {"scale", "flatten"}
    layers = [layer for layer in built.layers if layer.name not in dropped]
    return keras.Sequential([keras.layers.Input((28, 28, 1) if recipe.filters else (784,)), *layers])


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
    study, recipe, x, y = _data(variant, images, epochs=epochs, precision=precision)
    seeds = range(schedule.workers())
    # As the train stage has it on one machine.
    side_by_side = joblib.parallel_config("loky", n_jobs=len(seeds), inner_max_num_threads=1)
    with side_by_side, tempfile.TemporaryDirectory() as scratch:

        def train(name: str, count: int) -> list[Measured]:
            jobs, clocks = [], []
            for seed in seeds:
                dev = dev_indices(count, study.split.dev_fraction, seed) if recipe.dev_split else None
                run = Run(variant, recipe.model_dump(), seed, dev, digests={}, versions=installed_versions())
                clocks.append(EpochClock(scratch, f"{name}-{seed}"))
                jobs.append(joblib.delayed(train_run)(run, x[:count], y[:count], clocks[-1]))
            runs = []
            for clock, result in zip(clocks, joblib.Parallel(batch_size=1)(jobs), strict=True):
                if isinstance(result, Failed):
                    raise StudyError(result.reason)
                times = [result.facts["started"], *map(float, clock.read_text().split())]
                runs.append({"seconds": result.facts["seconds"], "epochs": np.diff(times).tolist()})
            return runs

        # Every worker imports TensorFlow, and does what only the first run of a process needs.
        train("first", WARM_UP_IMAGES)
        start_seconds = time.perf_counter() - started
        runs = train("measured", images)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    return {
        **{"start_seconds": start_seconds, "runs": runs},
        **{"driver_mib": _mib(resource.RUSAGE_SELF), "worker_mib": _mib(resource.RUSAGE_CHILDREN)},
    }


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
    publisher = tracking.Publisher(study)
    started = time.perf_counter()
    publisher.publish_variants([])
    ready = time.perf_counter()
    published = publisher.publish_variants(list(study.variants))
    if published < len(study.variants) * len(study.seeds):
        raise StudyError(f"MLflow should have taken every run of the study, and took {published}")
    return {"start_seconds": ready - started, "seconds": time.perf_counter() - ready}


def _data(variant: str, images: int, **changes: Any) -> tuple[params.Params, Network, np.ndarray, np.ndarray]:
    """The study, the variant's recipe with changes, and the first training images with their labels."""
    study = params.load()
    recipe = study.recipe(variant).model_copy(update=changes)
    assert isinstance(recipe, Network)
    x, y = records.read_images(records.TRAIN)
    return study, recipe, x[:images], y[:images]


def _mib(whose: int) -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(whose).ru_maxrss * unit / 2**20


@terminal.command
def main() -> None:
    measurements: dict[str, Callable[..., Measured]] = {"plain": plain, "pipeline": pipeline}
    measurements |= {"peak": peak, "publish": publish}
    print(json.dumps(measurements[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
