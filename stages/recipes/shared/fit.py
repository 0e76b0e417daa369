"""Train one network: epochs, early stopping on the dev split, a moving average of the weights."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from stages.errors import StudyError
from stages.recipes.shared.augmentation import Augment
from stages.recipes.shared.passes import passes
from stages.recipes.shared.rates import Rates
from stages.recipes.shared.recipe import Report


def fit_network(
    model: keras.Model,
    optimizer: keras.Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
    dev: np.ndarray | None,
    *,
    rates: Rates,
    batch_size: int,
    epochs: int,
    patience: int | None,
    restore_best: bool,
    label_smoothing: float,
    augment: Augment | None,
    seed: int,
    report: Report,
) -> tuple[list[np.ndarray], list[dict[str, float]], int]:
    """Train `model`, whose own weights are of no use afterwards.

    Early stopping is Keras's `EarlyStopping` on the dev loss: training ends after `patience` epochs without a new
    lowest one.

    Args:
        model: from uint8 images [n, …] to class probabilities.
        optimizer: where it keeps a moving average of the weights, that is what is evaluated and returned.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        dev: indices of the images to set aside, or None to train on all.
        rates: the learning rate of an epoch or of each of its steps; epochs count from 0.
        batch_size: images a step.
        epochs: at most so many.
        patience: None to train all epochs.
        restore_best: end with the weights of the lowest dev loss.
        label_smoothing: the share of each target that is spread over all classes, in training and on the dev images.
        augment: how far images are changed at random in training.
        seed: of the batch orders and of `augment`.
        report: is called after every epoch.

    Returns:
        The weights; a row for every epoch (epoch, loss, accuracy, val_loss, val_accuracy, learning_rate: the last of
        the epoch); and the epoch that the weights are from.

    Raises:
        StudyError: the loss is no longer a finite number.
    """
    chosen = np.ones(len(images), bool)
    if dev is not None:
        chosen[dev] = False
    train_pass, dev_pass = passes(
        model,
        optimizer,
        (images[chosen], labels[chosen]),
        None if dev is None else (images[dev], labels[dev]),
        batch_size=batch_size,
        label_smoothing=label_smoothing,
        augment=augment,
        seed=seed,
    )
    count = int(chosen.sum())
    watched = EarlyStopping(patience, restore_best and dev is not None)
    curve: list[dict[str, float]] = []
    for epoch in range(epochs):
        rate = rates(epoch, math.ceil(count / batch_size))
        scores = train_pass(batch_order(count, seed, epoch), rate)
        row = {"epoch": epoch, "loss": scores["loss"], "accuracy": scores["accuracy"]}
        with averaged(model):
            if dev_pass is not None:
                scores = dev_pass()
                row |= {"val_loss": scores["loss"], "val_accuracy": scores["accuracy"]}
            row["learning_rate"] = float(np.ravel(rate)[-1])
            see_that_it_is_finite(row)
            curve.append(row)
            report(epoch, row)
            if watched.stops(epoch, row.get("val_loss"), model):
                break
    with averaged(model):
        weights = model.get_weights() if watched.weights is None else watched.weights
    return weights, curve, watched.epoch if restore_best else len(curve) - 1


def batch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order, int64 [count], in which an epoch shows the training images."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch + 1])).permutation(count)


def see_that_it_is_finite(row: dict[str, float]) -> None:
    """Raise a StudyError where training diverged."""
    for name in ("loss", "val_loss"):
        if not math.isfinite(row.get(name, 0.0)):
            raise StudyError(
                f"{name} is {row[name]} after epoch {row['epoch']}: training diverges; "
                f"lower learning_rate (it was {row['learning_rate']:g})"
            )


class EarlyStopping:
    """The epoch of the lowest dev loss so far, and its weights where they are to be kept."""

    def __init__(self, patience: int | None, keep: bool) -> None:
        self._patience, self._keep = patience, keep
        self._loss = math.inf
        self.epoch = 0
        self.weights: list[np.ndarray] | None = None

    def stops(self, epoch: int, loss: float | None, model: keras.Model) -> bool:
        """Whether training ends after this epoch, of which `loss` is the dev loss."""
        if loss is None:
            return False
        if loss < self._loss:
            self.epoch, self._loss = epoch, loss
            self.weights = model.get_weights() if self._keep else None
            return False
        return self._patience is not None and epoch - self.epoch >= self._patience


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """The model with the moving average of its weights, where the optimizer keeps one, until the block ends."""
    if not model.optimizer.use_ema:
        yield
        return
    own: list[Any] = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, own, strict=True):
        variable.assign(value)
