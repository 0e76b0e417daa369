"""The two closed-form classifiers: ridge regression on one-hot targets, from pixels or from random features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
from sklearn.linear_model import Ridge

from stages.records import CLASSES, StudyError

INVERSE_GOLDEN_RATIO = (5**0.5 - 1) / 2
BLOCK = 4096  # rows at a time: all at once, the copies would take more memory than a network


@dataclass(frozen=True)
class Reduced:
    """A least-squares problem with its rows folded together.

    ‖ΦW + b − Y‖² over n rows, with the best b for each W, equals ‖features·W − targets‖² but for a constant: the R of
    a QR decomposition of [Φ Y], both centred. So every α costs a solve of this small problem.

    features: float64 [k, d]; targets: float64 [k, 10]; feature_mean: [d]; target_mean: [10].
    """

    features: np.ndarray
    targets: np.ndarray
    feature_mean: np.ndarray
    target_mean: np.ndarray


def reduce(features: np.ndarray, labels: np.ndarray) -> Reduced:
    """Fold features [n, d] and labels [n] into a `Reduced` problem, a block of rows at a time.

    The R of each block is stacked on the next one's rows (Demmel et al. 2012, "Communication-optimal parallel and
    sequential QR and LU factorizations", section 2). A first column of ones takes the means out of all the others.
    """
    folded = np.empty((0, 1 + features.shape[1] + CLASSES))
    for rows in _blocks(len(features)):
        one_hot = np.eye(CLASSES)[labels[rows]]
        block = np.hstack([np.ones((len(one_hot), 1)), features[rows], one_hot])
        folded = np.asarray(np.linalg.qr(np.vstack([folded, block]), mode="r"))
    mean, centred = folded[0, 1:] / folded[0, 0], folded[1:, 1:]
    width = features.shape[1]
    return Reduced(centred[:, :width], centred[:, width:], mean[:width], mean[width:])


def solve(problem: Reduced, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The kernel [d, 10] and bias [10] that minimise the squared error plus α‖kernel‖²; the bias is not penalised."""
    model = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(problem.features, problem.targets)
    kernel = model.coef_.T
    return kernel, problem.target_mean - problem.feature_mean @ kernel


def golden_section(loss: Callable[[float], object], low: float, high: float, tolerance: float) -> float:
    """The middle of the interval around a minimum of `loss`, when half of it is under `tolerance` (Kiefer 1953).

    `loss` may return anything that compares with `<`.
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
    """The α of the lowest dev error and the α of the highest dev accuracy.

    A grid of powers of two, then for each target a golden-section search between the neighbours of the grid's best
    point. Equal accuracies are told apart by the dev error.

    Args:
        score: of an α: the dev scores val_loss and val_accuracy.
        grid_powers: the lowest and the highest power of two.
        tolerance: half of the last interval is under this.

    Returns:
        A row for every α tried (search: "grid", "mse" or "accuracy"; alpha; the two scores), and the best α of each
        target: "mse", "accuracy".

    Raises:
        StudyError: the best point lies on the edge of the grid.
    """
    targets: dict[str, Callable[[dict[str, float]], tuple[float, ...]]] = {
        "mse": lambda row: (row["val_loss"],),
        "accuracy": lambda row: (-row["val_accuracy"], row["val_loss"]),
    }
    rows: list[dict[str, float | str]] = []

    def tried(search: str, alpha: float) -> dict[str, float]:
        scores = score(alpha)
        rows.append({"search": search, "alpha": alpha, **scores})
        return scores

    grid = [2.0**power for power in range(grid_powers[0], grid_powers[1] + 1)]
    coarse = [tried("grid", alpha) for alpha in grid]
    best = {}
    for target, order in targets.items():
        i = min(range(len(grid)), key=lambda i: order(coarse[i]))
        if i in (0, len(grid) - 1):
            raise StudyError(
                f"the best alpha for dev {target} is {grid[i]:g}, on the edge of the grid 2^{grid_powers[0]} … "
                f"2^{grid_powers[1]}: widen grid_powers"
            )
        best[target] = golden_section(
            lambda alpha: order(tried(target, alpha)),  # noqa: B023  # called before the loop goes on
            grid[i - 1],
            grid[i + 1],
            tolerance,
        )
    return rows, best


def hidden_weights(units: int, weight_sd: float, seed: int) -> np.ndarray:
    """The fixed input weights of an extreme learning machine, float32 [784, units], from N(0, weight_sd²)."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    return generator.normal(0, weight_sd, (784, units)).astype(np.float32)


def as_keras(kernel: np.ndarray, bias: np.ndarray, hidden: np.ndarray | None) -> keras.Sequential:
    """The classifier as a Keras model from grey values 0–255 to ten scores; the class is the highest."""
    layers = keras.layers
    stack = [layers.Input((28, 28), dtype="uint8", name="pixels"), layers.Rescaling(1 / 255, name="scale")]
    stack.append(layers.Flatten(name="flatten"))
    if hidden is not None:
        stack.append(layers.Dense(hidden.shape[1], activation="relu", use_bias=False, name="random_features"))
    stack.append(layers.Dense(CLASSES, name="scores"))
    model = keras.Sequential(stack, name="ridge")
    model.set_weights([*([] if hidden is None else [hidden]), kernel.astype(np.float32), bias.astype(np.float32)])
    return model


def fit_ridge(
    images: np.ndarray,
    labels: np.ndarray,
    dev: np.ndarray,
    *,
    grid_powers: tuple[int, int],
    tolerance: float,
    hidden: np.ndarray | None,
) -> tuple[keras.Sequential, list[dict[str, float | str]], dict[str, float], dict[str, float]]:
    """Search α on the dev split, then fit on all images with the α of the highest dev accuracy.

    Args:
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        dev: indices of the dev images.
        grid_powers: of the coarse grid.
        tolerance: of the golden-section search.
        hidden: input weights [784, units] of an extreme learning machine, or None to use the pixels.

    Returns:
        The model; the rows of the search; the best α of each target; the dev scores at the α chosen.
    """
    kept = np.ones(len(images), bool)
    kept[dev] = False
    problem = reduce(_features(images[kept], hidden), labels[kept])
    dev_features, dev_labels = _features(images[dev], hidden), labels[dev]
    dev_targets = np.eye(CLASSES)[dev_labels]

    def score(alpha: float) -> dict[str, float]:
        kernel, bias = solve(problem, alpha)
        outputs = dev_features @ kernel + bias
        return {
            "val_loss": float(((outputs - dev_targets) ** 2).mean()),
            "val_accuracy": float((outputs.argmax(axis=1) == dev_labels).mean()),
        }

    rows, best = search_alpha(score, grid_powers, tolerance)
    model = as_keras(*solve(reduce(_features(images, hidden), labels), best["accuracy"]), hidden)
    return model, rows, best, score(best["accuracy"])


def _features(images: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Pixels in [0, 1], or the ReLU of their random combinations, float64 [n, d]."""
    features = np.empty((len(images), 784 if hidden is None else hidden.shape[1]))
    for rows in _blocks(len(images)):
        pixels = images[rows].reshape(-1, 784) / 255
        features[rows] = pixels if hidden is None else np.maximum(pixels @ hidden, 0)
    return features


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))
