"""Train one network: epochs, early stopping on the validation loss, a moving average of the weights."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from stages.recipes.shared.augmentation import Augment
from stages.recipes.shared.epochs import EarlyStopping, batch_order, check_finite, curve_row
from stages.recipes.shared.passes import passes
from stages.recipes.shared.rates import Rates
from stages.recipes.shared.recipe import EpochCallback, training_indices


def fit_network(
    model: keras.Model,
    optimizer: keras.Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
    validation: np.ndarray | None,
    *,
    rates: Rates,
    batch_size: int,
    epochs: int,
    patience: int | None,
    restore_best: bool,
    label_smoothing: float,
    augment: Augment | None,
    seed: int,
    on_epoch: EpochCallback,
) -> tuple[list[np.ndarray], list[dict[str, float]], int]:
    """Train `model`, whose own weights are not meant to be used afterwards.

    Args:
        model: from uint8 images [n, …] to class probabilities [n, classes].
        optimizer: if it keeps a moving average of the weights, the average is evaluated and returned.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        validation: indices of the validation split, or None to train on all images.
        rates: the learning rate of an epoch, or of each of its steps; epochs count from 0.
        batch_size: the number of images in a step.
        epochs: the maximum number of epochs.
        patience: training stops after this many epochs without a new lowest validation loss; None to train all epochs.
        restore_best: return the weights of the lowest validation loss, not the last ones.
        label_smoothing: the share of each target that is spread over all classes, in training and validation.
        augment: random changes of the training images, or None.
        seed: of the batch orders and of `augment`.
        on_epoch: called after every epoch.

    Returns:
        The weights; a row for every epoch, as `epochs.curve_row`; and the epoch of the weights.

    Raises:
        DivergedError: the loss is no longer a finite number.
    """
    chosen = training_indices(len(images), validation)
    train_pass, validation_pass = passes(
        model,
        optimizer,
        (images[chosen], labels[chosen]),
        None if validation is None else (images[validation], labels[validation]),
        batch_size=batch_size,
        label_smoothing=label_smoothing,
        augment=augment,
        seed=seed,
    )
    stopping = EarlyStopping(patience)
    best: list[np.ndarray] | None = None
    curve: list[dict[str, float]] = []
    for epoch in range(epochs):
        rate = rates(epoch, math.ceil(len(chosen) / batch_size))
        scores = train_pass(batch_order(len(chosen), seed, epoch), rate)
        with averaged(model):
            row = curve_row(epoch, scores, validation_pass() if validation_pass else None, rate)
            check_finite(row)
            curve.append(row)
            on_epoch(epoch, row)
            if stopping.update(epoch, row.get("val_loss")) and restore_best:
                best = model.get_weights()
        if stopping.stop:
            break
    with averaged(model):
        weights = model.get_weights() if best is None else best
    return weights, curve, stopping.best_epoch if restore_best else len(curve) - 1


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Within the block, give the model the moving average of its weights, if the optimizer keeps one."""
    if not model.optimizer.use_ema:
        yield
        return
    weights: list[Any] = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
