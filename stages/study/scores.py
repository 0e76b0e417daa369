"""The scores by which a study compares its variants: functions of predicted and true labels, by their names.

A score of one's own is one more entry of `SCORES`: a function of the predicted and the true labels. It is computed from
the committed predictions when results are compared, so no run is trained or evaluated again.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from stages.study.records.results import EvaluatedRuns

POINTS = "percentage points"
ACCURACY = "accuracy"  # the default
VALIDATION_ACCURACY = "validation_accuracy"  # of races only


@dataclass(frozen=True)
class Score:
    """A score of the runs of a variant on the test images.

    Attributes:
        label: its name in texts.
        unit: the unit of its differences: percentage points for a score that is a share, which is shown in percent;
            empty for none.
        of_labels: predicted labels int [seeds, images] and true labels int [images] → float [seeds]: a share from 0 to
            1, or in the unit. None for a score that evaluation has written.
        resolution: true labels [images] → the smallest nonzero difference of two runs, in the unit; 0 if there is none.
        image_weights: true labels [images] → float [images], so that the score is the mean over the images of weight ·
            correct; None for a score that is no such mean, which has no interval for new test images.
        column: the column of test.csv with a score that evaluation has written; None for a function of the labels.
        validation: the score on the validation split by which a model is chosen. The predictions for it are not kept,
            so it is dev_loss or dev_accuracy.
        lower_is_better: whether a lower score is better.
        needs_probabilities: whether only models whose outputs are probabilities have this score.
    """

    label: str
    unit: str
    of_labels: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    resolution: Callable[[np.ndarray], float]
    image_weights: Callable[[np.ndarray], np.ndarray] | None = None
    column: str | None = None
    validation: str = "dev_accuracy"
    lower_is_better: bool = False
    needs_probabilities: bool = False

    @property
    def is_share(self) -> bool:
        return self.unit == POINTS

    @property
    def scale(self) -> float:
        """What a score is multiplied by to have the unit of its differences."""
        return 100.0 if self.is_share else 1.0

    @property
    def value_label(self) -> str:
        """What an axis of values is labelled: "test accuracy, %", "log loss, nats (lower is better)"."""
        unit = "%" if self.is_share else self.unit
        return f"{self.label}{f', {unit}' if unit else ''}{' (lower is better)' if self.lower_is_better else ''}"

    def values(self, runs: EvaluatedRuns) -> np.ndarray:
        """The score of each run, float64 [seeds]: a share from 0 to 1, or in the unit."""
        if self.of_labels is not None:
            return self.of_labels(runs.predicted, runs.truth)
        return runs.score(str(self.column))

    def text(self, value: float) -> str:
        """A value with its unit: "98.53 %", "0.0412 nats"."""
        return f"{100 * value:.2f} %" if self.is_share else f"{value:.4f} {self.unit}".rstrip()

    @property
    def validation_label(self) -> str:
        """What the score on the validation split is called: "validation accuracy"."""
        return f"validation {self.validation.removeprefix('dev_')}"

    @property
    def difference_form(self) -> str:
        """The format of a difference in a sentence."""
        return "{:+.2f}" if self.is_share else "{:+.4f}"


def accuracy(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The share of the images that are classified correctly.

    Args:
        predicted: int [seeds, images].
        truth: int [images].

    Returns:
        float64 [seeds].
    """
    return (predicted == truth).mean(axis=1)


def recalls(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The recall of each class: the share of its images that are classified correctly.

    Args:
        predicted: int [seeds, images].
        truth: int [images].

    Returns:
        float64 [seeds, classes], for the classes that occur in truth, in ascending order.
    """
    _, first, images = np.unique(np.sort(truth), return_index=True, return_counts=True)
    correct = (predicted == truth)[:, np.argsort(truth, kind="stable")]
    return np.add.reduceat(correct, first, axis=1, dtype=np.int64) / images


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean recall of the classes that occur in truth; arguments and result are those of `accuracy`.

    Brodersen et al. 2010, "The balanced accuracy and its posterior distribution", ICPR.
    """
    return recalls(predicted, truth).mean(axis=1)


def macro_f1(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean F1 score of the classes; arguments and result are those of `accuracy`.

    F1 is 2 · correct / (images of the class + predictions of the class). The mean is over the classes that occur in
    truth or in the predictions of the run, as scikit-learn computes it.
    """
    classes = 1 + max(int(predicted.max()), int(truth.max()))
    found = []
    for labels in predicted:
        correct = np.bincount(truth[labels == truth], minlength=classes)
        images = np.bincount(truth, minlength=classes) + np.bincount(labels, minlength=classes)
        found.append((2 * correct[images > 0] / images[images > 0]).mean())
    return np.array(found)


def class_sizes(truth: np.ndarray) -> np.ndarray:
    """The number of images of each class that occurs in truth, int64 [classes]."""
    return np.unique(truth, return_counts=True)[1]


def image_resolution(truth: np.ndarray) -> float:
    """The worth of one image in the accuracy, in percentage points."""
    return 100 / len(truth)


def balanced_resolution(truth: np.ndarray) -> float:
    """The least worth of one image in the balanced accuracy, in percentage points: that of the largest class."""
    sizes = class_sizes(truth)
    return float(100 / (len(sizes) * sizes.max()))


def balanced_weights(truth: np.ndarray) -> np.ndarray:
    """The weight of each image, float64 [images], so that all classes have the same weight; the mean weight is 1."""
    _, classes, images = np.unique(truth, return_inverse=True, return_counts=True)
    return len(truth) / (len(images) * images[classes])


SCORES = {
    ACCURACY: Score(
        label="test accuracy",
        unit=POINTS,
        of_labels=accuracy,
        resolution=image_resolution,
        image_weights=lambda truth: np.ones(len(truth)),
    ),
    "balanced_accuracy": Score(
        label="balanced accuracy",
        unit=POINTS,
        of_labels=balanced_accuracy,
        resolution=balanced_resolution,
        image_weights=balanced_weights,
    ),
    "macro_f1": Score(
        label="macro F1",
        unit=POINTS,
        of_labels=macro_f1,
        resolution=lambda truth: balanced_resolution(truth) / 2,
    ),
    "log_loss": Score(
        label="log loss",
        unit="nats",
        of_labels=None,
        resolution=lambda truth: 0.0,
        column="test_loss",
        validation="dev_loss",
        lower_is_better=True,
        needs_probabilities=True,
    ),
}
# What a race may use besides: variants can be chosen by it without the test images.
RACE_SCORES = SCORES | {
    VALIDATION_ACCURACY: Score(
        label="validation accuracy",
        unit=POINTS,
        of_labels=None,
        resolution=lambda truth: 0.0,  # it does not follow from the test images: see `races.validation_resolution`
        column="dev_accuracy",
    )
}


def check_name(name: str) -> str:
    """The name of a score.

    Raises:
        ValueError: there is no such score.
    """
    return _checked(name, SCORES)


def check_race_name(name: str) -> str:
    """The name of a score that a race may use.

    Raises:
        ValueError: there is no such score.
    """
    return _checked(name, RACE_SCORES)


def _checked(name: str, known: Collection[str]) -> str:
    if name not in known:
        raise ValueError(f"should be one of {', '.join(known)} (see stages/study/scores.py); received {name!r}")
    return name


def without_probabilities(variant: str, score: str) -> str:
    """The message that a variant whose outputs are not probabilities has no such score."""
    *names, last = [name for name, of in SCORES.items() if not of.needs_probabilities]
    return (
        f"{variant} has no {SCORES[score].label}: its outputs are not probabilities, and its loss is a squared error. "
        f"Leave it out, or compare by {', '.join(names)} or {last}"
    )
