"""What a single run and batched seeds share of training by epochs: batch orders, early stopping, what is recorded."""

import math
from collections.abc import Sequence

import numpy as np

from stages.recipes.shared.recipe import DivergedError

Row = dict[str, float]  # of the training curve, by column


def batch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order, int64 [count], in which an epoch visits the training images."""
    # Key 0 of the run's seed is that of the layers and of augmentation.
    return np.random.default_rng(np.random.SeedSequence([seed, epoch + 1])).permutation(count)


def curve_row(
    epoch: int,
    training: dict[str, float],
    validation: dict[str, float] | None,
    rates: float | np.ndarray,
) -> Row:
    """A row of the training curve.

    Args:
        epoch: its number, from 0.
        training: "loss" and "accuracy", means over the training images during the epoch.
        validation: the same of the validation split after the epoch, or None without one.
        rates: the learning rate of the epoch or, float32 [steps], of each of its steps.

    Returns:
        epoch, loss, accuracy, with a validation split val_loss and val_accuracy, and learning_rate: the last one.
    """
    row = {"epoch": epoch, "loss": training["loss"], "accuracy": training["accuracy"]}
    if validation is not None:
        row |= {"val_loss": validation["loss"], "val_accuracy": validation["accuracy"]}
    return {**row, "learning_rate": float(np.ravel(rates)[-1])}


def check_finite(row: Row) -> None:
    """Check that training has not diverged.

    Args:
        row: of the training curve.

    Raises:
        DivergedError: a loss is infinite or not a number.
    """
    for name in ("loss", "val_loss"):
        if not math.isfinite(row.get(name, 0.0)):
            raise DivergedError(
                f"{name} is {row[name]} after epoch {row['epoch']}: training diverges; "
                f"lower learning_rate (it was {row['learning_rate']:g})",
                row,
            )


class EarlyStopping:
    """Stops training after `patience` epochs without a new lowest validation loss, as Keras's callback of this name.

    The weights of the best epoch are kept by the caller. Without a validation split, every epoch counts as the best
    so far and training does not stop early.

    Attributes:
        best_epoch: the epoch of the lowest validation loss so far.
        best_loss: that loss.
        stop: whether training should end.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.best_epoch = 0
        self.best_loss = math.inf
        self.stop = False

    def update(self, epoch: int, loss: float | None) -> bool:
        """Take in an epoch.

        Args:
            epoch: its number, from 0.
            loss: its validation loss, or None without a validation split.

        Returns:
            Whether the validation loss improved.
        """
        if loss is None:
            self.best_epoch = epoch
            return False
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = epoch, loss
            return True
        self.stop = self._patience is not None and epoch - self.best_epoch >= self._patience
        return False


def run_facts(curve: Sequence[Row], best_epoch: int) -> dict[str, float | int | None]:
    """What a finished run records of itself: the number of epochs, and the validation scores of the epoch kept.

    Args:
        curve: a row for each epoch.
        best_epoch: the epoch of the weights that are kept.
    """
    row = curve[best_epoch]
    scores = {"dev_loss": row.get("val_loss"), "dev_accuracy": row.get("val_accuracy")}
    return {"epochs": len(curve), "best_epoch": best_epoch, **scores}
