"""Scores of a model's outputs on the test set: pure functions over arrays."""

from collections.abc import Callable

import numpy as np
import pandas as pd

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-7  # as Keras clips it in the cross-entropy


def accuracy(outputs: np.ndarray, truth: np.ndarray) -> float:
    """The accuracy of outputs [n, classes] for labels [n]: the share whose highest output is that of the label."""
    return float((outputs.argmax(axis=1) == truth).mean())


def cross_entropy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean cross-entropy of probabilities [n, classes] for the labels [n], in nats."""
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)).mean())


def squared_error(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error of outputs [n, classes] against the one-hot labels [n]."""
    return float(((outputs.astype(np.float64) - np.eye(outputs.shape[1])[truth]) ** 2).mean())


def metrics(probabilities: bool) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """The scores of a run by their column in test.csv. They are in every table, in MLflow and in summary.json.

    Args:
        probabilities: whether the outputs are probabilities.

    Returns:
        Functions of the outputs [n, classes] and the labels [n].
    """
    return {"test_loss": cross_entropy if probabilities else squared_error, "test_accuracy": accuracy}


def calibration(probabilities: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """The accuracy of the predictions, by their probability.

    Bins of equal width, as in Guo et al. 2017, "On calibration of modern neural networks", section 2.

    Args:
        probabilities: [n, classes].
        truth: labels [n].

    Returns:
        A row for each bin that is not empty: bin, images, confidence (mean probability), accuracy.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    # Bins are open below and closed above, so that a probability of 1 belongs to the last one.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    table = pd.DataFrame({"bin": bins, "confidence": confidence, "accuracy": right})
    grouped = table.groupby("bin")
    means = grouped.mean()
    means.insert(0, "images", grouped.size())
    return means.reset_index()


def hardest(predicted: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """Indices, uint16 [count], of the images that most runs classify wrongly; ties are broken by the index.

    Args:
        predicted: labels [seeds, n].
        truth: labels [n].
    """
    wrong = (predicted != truth).sum(axis=0)
    return np.argsort(-wrong, kind="stable")[:count].astype(np.uint16)
