"""Ridge regression on one-hot targets: from pixels, or from random features (an extreme learning machine)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from stages.recipes.shared import recipe
from stages.recipes.shared.recipe import Count, EpochCallback, FitResult, Positive, training_indices

INVERSE_GOLDEN_RATIO = (5**0.5 - 1) / 2
LARGEST_POWER = 60  # of two, of α and of 1/α
Power = Annotated[int, Field(ge=-LARGEST_POWER, le=LARGEST_POWER)]
SEARCH_PRECISION = 1e-9  # of α, relative: a smaller tolerance may be below the distance of two float64 numbers
BLOCK = 4096  # rows at a time: copies of all rows at once would take more memory than training a network


class Recipe(recipe.Recipe):
    """Ridge regression whose regularization strength α is chosen on the validation split of the seed.

    Attributes:
        grid_powers: the lowest and the highest power of two of a coarse grid of α, which is extended while its best
            point lies on an edge.
        tolerance: the golden-section search ends when half the interval is below this.
        hidden_units: the number of random ReLU features, which are not trained; None to regress on the pixels.
        weight_sd: the standard deviation of the weights of the random features.
    """

    grid_powers: Annotated[list[Power], Field(min_length=2, max_length=2)]
    tolerance: Annotated[float, Field(ge=1e-6, allow_inf_nan=False)]
    hidden_units: Count | None = None
    weight_sd: Positive | None = None

    curve: ClassVar[list[str]] = ["search", "alpha", "val_loss", "val_accuracy"]
    facts: ClassVar[list[str]] = ["dev_loss", "dev_accuracy", "alpha_mse", "alpha_accuracy"]
    probabilities: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        lowest, highest = self.grid_powers
        if highest - lowest < 2:
            raise ValueError(f"grid_powers must span at least three points [low, high], received {self.grid_powers}")
        if (self.hidden_units is None) != (self.weight_sd is None):
            raise ValueError("hidden_units and weight_sd belong together: give both or neither")
        return self

    @property
    def uses_validation(self) -> bool:
        return True

    def fit(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        validation: np.ndarray | None,
        seed: int,
        on_epoch: EpochCallback,
    ) -> FitResult:
        assert validation is not None
        hidden = None
        if self.hidden_units is not None and self.weight_sd is not None:
            hidden = hidden_weights(int(np.prod(images.shape[1:])), self.hidden_units, self.weight_sd, seed)
        low, high = self.grid_powers
        model, rows, best, scores = fit_ridge(
            images, labels, classes, validation, grid_powers=(low, high), tolerance=self.tolerance, hidden=hidden
        )
        facts = {"dev_loss": scores["val_loss"], "dev_accuracy": scores["val_accuracy"]}
        return FitResult(model, rows, {**facts, "alpha_mse": best["mse"], "alpha_accuracy": best["accuracy"]})

    def class_images(self, model: Any) -> np.ndarray | None:
        shape = model.input_shape[1:]
        if self.hidden_units is not None or len(shape) != 2:
            return None
        return model.get_weights()[0].T.reshape(-1, *shape)


@dataclass(frozen=True)
class Reduced:
    """A least-squares problem whose rows are reduced to few.

    ‖ΦW + b − Y‖² over n rows, with the best b for each W, equals ‖features·W − targets‖² up to a constant, where
    [features targets] is the R of a QR decomposition of [Φ Y], both centred. So each α only costs a solve of this small
    problem.

    Attributes:
        features: float64 [k, d].
        targets: float64 [k, classes].
        feature_mean: float64 [d].
        target_mean: float64 [classes].
    """

    features: np.ndarray
    targets: np.ndarray
    feature_mean: np.ndarray
    target_mean: np.ndarray


def reduce(features: np.ndarray, labels: np.ndarray, classes: int) -> Reduced:
    """Reduce a least-squares problem, a block of rows at a time.

    The R of each block is stacked on the rows of the next one (Demmel et al. 2012, "Communication-optimal parallel and
    sequential QR and LU factorizations", section 2). A first column of ones centres all the others.

    Args:
        features: float64 [n, d].
        labels: uint8 or uint16 [n].
        classes: the number of classes.
    """
    reduced = np.empty((0, 1 + features.shape[1] + classes))
    for rows in _blocks(len(features)):
        one_hot = np.eye(classes)[labels[rows]]
        block = np.hstack([np.ones((len(one_hot), 1)), features[rows], one_hot])
        reduced = np.asarray(np.linalg.qr(np.vstack([reduced, block]), mode="r"))
    mean, centred = reduced[0, 1:] / reduced[0, 0], reduced[1:, 1:]
    width = features.shape[1]
    return Reduced(centred[:, :width], centred[:, width:], mean[:width], mean[width:])


def solve(problem: Reduced, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimize the squared error plus α‖kernel‖².

    Args:
        problem: the reduced problem.
        alpha: α; the bias is not penalized.

    Returns:
        The kernel, float64 [d, classes], and the bias, float64 [classes].
    """
    from sklearn.linear_model import Ridge  # a second to import

    model = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(problem.features, problem.targets)
    kernel = model.coef_.T
    return kernel, problem.target_mean - problem.feature_mean @ kernel


def golden_section(loss: Callable[[float], object], low: float, high: float, tolerance: float) -> float:
    """Find a minimum by golden-section search (Kiefer 1953).

    Args:
        loss: the function to minimize. It may return anything that compares with `<`.
        low: the lower end of the interval to search.
        high: its upper end.
        tolerance: the search ends when half the interval is below this.

    Returns:
        The middle of the last interval.
    """
    inner = high - INVERSE_GOLDEN_RATIO * (high - low), low + INVERSE_GOLDEN_RATIO * (high - low)
    left, right = inner
    at_left, at_right = loss(left), loss(right)
    while (high - low) / 2 >= tolerance:
        if at_left < at_right:  # type: ignore[operator]
            high, right, at_right = right, left, at_left
            left = high - INVERSE_GOLDEN_RATIO * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + INVERSE_GOLDEN_RATIO * (high - low)
            at_right = loss(right)
    return (low + high) / 2


def search_alpha(
    score: Callable[[float], dict[str, float]], grid_powers: tuple[int, int], tolerance: float
) -> tuple[list[dict[str, float | str]], dict[str, float]]:
    """Find the α of the lowest validation error and the α of the highest validation accuracy.

    A grid of powers of two is followed, for each target, by a golden-section search between the neighbours of the best
    grid point. Ties in accuracy are broken by the validation error. The grid is extended while its best point lies on
    an edge, as on images without a linear signal, where the best α is the largest one.

    Args:
        score: from α to the validation scores val_loss and val_accuracy.
        grid_powers: the lowest and the highest power of two.
        tolerance: of the golden-section search.

    Returns:
        A row for every α tried (search: "grid", "mse" or "accuracy"; alpha; the two scores), and the best α for each
        target: "mse", "accuracy".
    """
    targets: dict[str, Callable[[dict[str, float]], tuple[float, ...]]] = {
        "mse": lambda row: (row["val_loss"],),
        "accuracy": lambda row: (-row["val_accuracy"], row["val_loss"]),
    }
    rows: list[dict[str, float | str]] = []

    def evaluate(search: str, alpha: float) -> dict[str, float]:
        scores = score(alpha)
        rows.append({"search": search, "alpha": alpha, **scores})
        return scores

    grid = {power: evaluate("grid", 2.0**power) for power in range(grid_powers[0], grid_powers[1] + 1)}
    best = {}
    for target, order in targets.items():
        power = best_power(grid, order, lambda power: evaluate("grid", 2.0**power))
        best[target] = golden_section(
            lambda alpha: order(evaluate(target, alpha)),  # noqa: B023  # called before the loop goes on
            2.0 ** max(power - 1, -LARGEST_POWER),
            2.0 ** min(power + 1, LARGEST_POWER),
            max(tolerance, SEARCH_PRECISION * 2.0**power),
        )
    return rows, best


def best_power(
    grid: dict[int, dict[str, float]],
    order: Callable[[dict[str, float]], tuple[float, ...]],
    evaluate: Callable[[int], dict[str, float]],
) -> int:
    """The power of two with the best validation scores.

    Args:
        grid: power → scores. While the best power is the lowest or the highest one, the next one is added.
        order: from scores to a tuple, which is the lowest for the best scores.
        evaluate: from a power to its scores.
    """
    while True:
        best = min(sorted(grid), key=lambda power: order(grid[power]))
        beyond = best - 1 if best == min(grid) else best + 1
        if beyond in grid or abs(beyond) > LARGEST_POWER:
            return best
        grid[beyond] = evaluate(beyond)


def hidden_weights(pixels: int, units: int, weight_sd: float, seed: int) -> np.ndarray:
    """The fixed input weights of an extreme learning machine.

    Args:
        pixels: the number of values of an image.
        units: the number of random features.
        weight_sd: the standard deviation of the weights, which are normal with mean 0.
        seed: of the run.

    Returns:
        float32 [pixels, units].
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    return generator.normal(0, weight_sd, (pixels, units)).astype(np.float32)


def as_keras(shape: tuple[int, ...], kernel: np.ndarray, bias: np.ndarray, hidden: np.ndarray | None) -> Any:
    """The classifier as a Keras model from pixels 0–255 to a score for each class; the highest one is predicted.

    Args:
        shape: of an image.
        kernel: [d, classes].
        bias: [classes].
        hidden: input weights, float32 [pixels, d], of an extreme learning machine, or None.
    """
    import keras
    from keras import layers

    stack = [layers.Input(shape, dtype="uint8", name="pixels"), layers.Rescaling(1 / 255, name="scale")]
    stack.append(layers.Flatten(name="flatten"))
    if hidden is not None:
        stack.append(layers.Dense(hidden.shape[1], activation="relu", use_bias=False, name="random_features"))
    stack.append(layers.Dense(len(bias), name="scores"))
    model = keras.Sequential(stack, name="ridge")
    model.set_weights([*([] if hidden is None else [hidden]), kernel.astype(np.float32), bias.astype(np.float32)])
    return model


def fit_ridge(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    validation: np.ndarray,
    *,
    grid_powers: tuple[int, int],
    tolerance: float,
    hidden: np.ndarray | None,
) -> tuple[Any, list[dict[str, float | str]], dict[str, float], dict[str, float]]:
    """Choose α on the validation split, then fit all images with the α of the highest validation accuracy.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        classes: the number of classes.
        validation: indices of the validation split.
        grid_powers: of the coarse grid.
        tolerance: of the golden-section search.
        hidden: input weights [pixels, units] of an extreme learning machine, or None to use the pixels.

    Returns:
        The model; the rows of the search; the best α for each target; the validation scores of the chosen α.
    """
    chosen = training_indices(len(images), validation)
    problem = reduce(_features(images[chosen], hidden), labels[chosen], classes)
    val_features, val_labels = _features(images[validation], hidden), labels[validation]
    val_targets = np.eye(classes)[val_labels]

    def score(alpha: float) -> dict[str, float]:
        kernel, bias = solve(problem, alpha)
        outputs = val_features @ kernel + bias
        return {
            "val_loss": float(((outputs - val_targets) ** 2).mean()),
            "val_accuracy": float((outputs.argmax(axis=1) == val_labels).mean()),
        }

    rows, best = search_alpha(score, grid_powers, tolerance)
    kernel, bias = solve(reduce(_features(images, hidden), labels, classes), best["accuracy"])
    return as_keras(images.shape[1:], kernel, bias, hidden), rows, best, score(best["accuracy"])


def _features(images: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Pixels in [0, 1], or the ReLU of their random combinations, float64 [n, d]."""
    pixels = images.reshape(len(images), -1)
    features = np.empty((len(images), pixels.shape[1] if hidden is None else hidden.shape[1]))
    for rows in _blocks(len(images)):
        scaled = pixels[rows] / 255
        features[rows] = scaled if hidden is None else np.maximum(scaled @ hidden, 0)
    return features


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))
