"""The result of a run that diverged: it counts as one that predicts the largest class, whatever the image.

Such a run must be recorded, since a seed that is left out because of its score would bias every comparison. Its model
is a constant one, so that it is saved, evaluated and published as any other model.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import DivergedError, Recipe, training_indices

CHECKED = 100  # images on which the outputs of a trained model are checked

Row = dict[str, Any]  # of the training curve


def outcome(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    validation: np.ndarray | None,
    *,
    rows: Sequence[Row],
    error: DivergedError,
) -> tuple[bytes, list[Row], dict[str, Any]]:
    """What to record of a run that diverged.

    Args:
        recipe: the recipe of the run.
        images: uint8 [n, height, width] or [n, height, width, 3], all training images.
        labels: uint8 or uint16 [n].
        classes: the number of classes.
        validation: indices of the validation split, or None.
        rows: of the training curve, as far as they are known.
        error: the error that ended the training.

    Returns:
        The bytes of the model, the curve, and the facts of the recipe with "diverged": the "epoch" (without epochs, the
        number of rows before the last one) and the "reason".
    """
    from stages.recipes.shared.saved import model_bytes

    curve = _curve(rows, error.row)
    shares = class_shares(labels[training_indices(len(labels), validation)], classes)
    known: Row = {"epochs": len(curve)}
    if validation is not None:
        known |= validation_scores(recipe, shares, labels[validation])
    diverged = {"epoch": int(error.row.get("epoch", len(curve) - 1)), "reason": str(error)}
    facts = {name: known.get(name) for name in recipe.facts}
    return model_bytes(constant_model(images.shape[1:], shares)), curve, {**facts, "diverged": diverged}


def check_initial_weights(recipe: KerasRecipe, shape: tuple[int, ...], classes: int, seed: int) -> None:
    """Check that the weights of a model are finite before it is trained.

    Args:
        recipe: of the run.
        shape: of an image: (height, width) or (height, width, 3).
        classes: the number of classes.
        seed: of the run.

    Raises:
        DivergedError: a weight is infinite or not a number.
    """
    import keras

    from stages.recipes.shared.models import layer_seeds

    model = recipe.build(shape, classes, layer_seeds(seed))
    for weight in getattr(model, "weights", []):  # build may have returned something else
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise DivergedError(f"{weight.path} is not finite before training", {"epoch": 0})


def check_outputs(model: Any, images: np.ndarray, curve: Sequence[Row]) -> tuple[int, ...]:
    """Check that training has not diverged in its last step, which no loss has seen without a validation split.

    Args:
        model: the trained keras.Model.
        images: uint8 [n, height, width] or [n, height, width, 3], some of the training images.
        curve: of the run.

    Returns:
        The shape of the outputs.

    Raises:
        DivergedError: an output is infinite or not a number.
    """
    import keras

    outputs = keras.ops.convert_to_numpy(model(images, training=False))
    if not np.isfinite(outputs).all():
        last = curve[-1] if curve else {}
        raise DivergedError("the outputs of the trained model are not finite: training diverges", last)
    return tuple(outputs.shape)


def class_shares(labels: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class, float64 [classes], smoothed so that no class has probability 0.

    With n_c of n labels, the share is (n_c + 1) / (n + classes).
    """
    return (np.bincount(labels, minlength=classes) + 1) / (len(labels) + classes)


def constant_model(shape: tuple[int, ...], shares: np.ndarray) -> Any:
    """A keras.Model that predicts the same probabilities for every image.

    Args:
        shape: of an image: (height, width) or (height, width, 3).
        shares: the probabilities [classes].
    """
    import keras
    from keras import layers

    # The names are part of the saved bytes; by default they count the layers of the process.
    output = layers.Dense(
        len(shares), activation="softmax", kernel_initializer="zeros", dtype="float32", name="probabilities"
    )
    model = keras.Sequential(
        [
            layers.Input(shape, dtype="uint8", name="pixels"),
            layers.Rescaling(1 / 255, dtype="float32", name="scale"),
            layers.Flatten(dtype="float32", name="flatten"),
            output,
        ],
        name="diverged",
    )
    kernel, _ = output.get_weights()
    output.set_weights([kernel, np.log(shares).astype(np.float32)])
    return model


def validation_scores(recipe: Recipe, shares: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The validation loss and accuracy of a model that predicts constant probabilities.

    The loss is the one that the recipe trains on, which smoothed labels are a part of; of outputs that are no
    probabilities, it is the squared error.

    Args:
        recipe: the recipe.
        shares: the probabilities [classes].
        labels: of the validation split [n].
    """
    smoothing = recipe.label_smoothing if isinstance(recipe, KerasRecipe) else 0.0
    targets = (1 - smoothing) * np.eye(len(shares))[labels] + smoothing / len(shares)
    losses = -(targets @ np.log(shares)) if recipe.probabilities else ((targets - shares) ** 2).mean(axis=1)
    return {"dev_loss": float(losses.mean()), "dev_accuracy": float((labels == shares.argmax()).mean())}


def _curve(rows: Sequence[Row], last: Row) -> list[Row]:
    """The rows with the last one; numbers that are not finite are missing.

    A family of one's own may have reported the last row already.
    """
    before = [row for row in rows if row is not last and ("epoch" not in row or row["epoch"] != last.get("epoch"))]
    return [{name: _finite(value) for name, value in row.items()} for row in [*before, last]]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float | np.floating) and not math.isfinite(value) else value
