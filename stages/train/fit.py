"""Train one network: epochs, learning-rate decay, early stopping on the dev split."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from stages.records import StudyError

DEV_BATCH = 500


class Report(Protocol):
    def __call__(self, epoch: int, row: dict[str, float]) -> None: ...


def fit_network(
    model: keras.Sequential,
    images: np.ndarray,
    labels: np.ndarray,
    dev: np.ndarray | None,
    *,
    learning_rate: float,
    decay: tuple[int, float] | None,
    batch_size: int,
    epochs: int,
    patience: int | None,
    restore_best: bool,
    seed: int,
    report: Report,
) -> tuple[list[dict[str, float]], int]:
    """Train `model` in place.

    Early stopping is Keras's `EarlyStopping` on the dev loss: training ends after `patience` epochs without a new
    lowest one.

    Args:
        model: from uint8 [n, 28, 28] to class probabilities.
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        dev: indices of the images to set aside, or None to train on all.
        learning_rate: of Adam.
        decay: (start, rate): the learning rate times exp(rate * (start - epoch)) from epoch `start` on.
        batch_size: images a step.
        epochs: at most so many; they count from 0.
        patience: None to train all epochs.
        restore_best: end with the weights of the lowest dev loss.
        seed: of the batch orders.
        report: is called after every epoch.

    Returns:
        A row for every epoch (the columns of curves.csv but the seed), and the epoch that the weights are from.

    Raises:
        StudyError: the loss is no longer a finite number.
    """
    chosen = np.ones(len(images), bool)
    if dev is not None:
        chosen[dev] = False
    train_pass, dev_pass = _passes(
        model, images[chosen], labels[chosen], None if dev is None else (images[dev], labels[dev]), batch_size
    )
    curve: list[dict[str, float]] = []
    best_epoch, best_loss, best_weights = 0, math.inf, None
    for epoch in range(epochs):
        rate = learning_rate * math.exp(decay[1] * (decay[0] - epoch)) if decay and epoch >= decay[0] else learning_rate
        model.optimizer.learning_rate = rate
        order = np.random.default_rng(np.random.SeedSequence([seed, epoch + 1])).permutation(int(chosen.sum()))
        scores = train_pass(order)
        row = {"epoch": epoch, "loss": scores["loss"], "accuracy": scores["accuracy"]}
        if dev_pass is not None:
            scores = dev_pass()
            row |= {"val_loss": scores["loss"], "val_accuracy": scores["accuracy"]}
        row["learning_rate"] = rate
        for name in ("loss", "val_loss"):
            if not math.isfinite(row.get(name, 0.0)):
                raise StudyError(
                    f"{name} is {row[name]} after epoch {epoch}: training diverges; "
                    f"lower learning_rate (it was {rate:g})"
                )
        curve.append(row)
        report(epoch, row)
        if dev is None or not (patience or restore_best):
            best_epoch = epoch
        elif row["val_loss"] < best_loss:
            best_epoch, best_loss = epoch, row["val_loss"]
            best_weights = model.get_weights() if restore_best else None
        elif patience and epoch - best_epoch >= patience:
            break
    if best_weights is not None:
        model.set_weights(best_weights)
    return curve, best_epoch if restore_best else len(curve) - 1


Scores = dict[str, float]


def _passes(
    model: keras.Sequential,
    images: np.ndarray,
    labels: np.ndarray,
    dev: tuple[np.ndarray, np.ndarray] | None,
    batch_size: int,
) -> tuple[Callable[[np.ndarray], Scores], Callable[[], Scores] | None]:
    """One epoch of training in a given order, and one look at the dev split, for the backend in use."""
    settings: dict[str, Any] = {
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        # XLA makes convolutions on the CPU ten times slower; JAX has nothing else.
        "jit_compile": keras.backend.backend() == "jax",
    }
    if keras.backend.backend() != "tensorflow":
        model.compile(keras.optimizers.Adam(), **settings)

        def keras_pass(order: np.ndarray) -> Scores:
            history = model.fit(
                images[order], labels[order], batch_size=batch_size, epochs=1, shuffle=False, verbose=0
            ).history
            return {name: float(values[0]) for name, values in history.items()}

        def keras_dev() -> Scores:
            assert dev is not None
            return _floats(model.evaluate(*dev, batch_size=DEV_BATCH, verbose=0, return_dict=True))

        return keras_pass, keras_dev if dev else None

    from stages.train.tensorflow_passes import FusedAdam, batch_pass  # TensorFlow need not be there for other backends

    model.compile(FusedAdam(), **settings)
    model.optimizer.build(model.trainable_variables)
    train = batch_pass(model.train_step, images, labels, batch_size)

    def train_pass(order: np.ndarray) -> Scores:
        model.reset_metrics()
        train(order)
        return _floats(model.get_metrics_result())

    if dev is None:
        return train_pass, None
    test = batch_pass(model.test_step, *dev, DEV_BATCH)
    in_order = np.arange(len(dev[0]))

    def dev_pass() -> Scores:
        model.reset_metrics()
        test(in_order)
        return _floats(model.get_metrics_result())

    return train_pass, dev_pass


def _floats(scores: dict[str, Any]) -> Scores:
    return {name: float(value) for name, value in scores.items()}
