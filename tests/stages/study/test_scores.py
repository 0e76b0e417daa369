"""The scores of a study, and what params.yaml may say of them."""

import re

import numpy as np
import pytest
from sklearn import metrics

from many_seeds.errors import UserError
from stages.evaluate.scores import cross_entropy
from stages.study import params, scores
from stages.study.comparisons import image_differences, named_comparisons, named_pairs
from stages.study.scores import SCORES
from tests.support import study as made

GENERATOR = np.random.default_rng(0)
TRUTH = np.repeat([0, 1, 2, 4], [40, 10, 6, 4]).astype(np.uint8)  # no image of class 3
# The largest class throughout; class 3, which has no image; and labels at random.
PREDICTED = np.stack([np.zeros(60), np.full(60, 3), *GENERATOR.integers(0, 5, (6, 60))]).astype(np.uint8)


def test_accuracy_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn() -> None:
    for labels in PREDICTED:
        expected = {
            "accuracy": metrics.accuracy_score(TRUTH, labels),
            # scikit-learn warns of predictions of classes without an image.
            "balanced_accuracy": metrics.recall_score(TRUTH, labels, labels=[0, 1, 2, 4], average="macro"),
            "macro_f1": metrics.f1_score(TRUTH, labels, average="macro", zero_division=0),
        }
        for name, value in expected.items():
            of_labels = SCORES[name].of_labels
            assert of_labels is not None
            assert of_labels(labels[None], TRUTH) == pytest.approx([value])
    present = PREDICTED[2:].copy()
    present[present == 3] = 0
    expected_balanced = [metrics.balanced_accuracy_score(TRUTH, labels) for labels in present]
    assert scores.balanced_accuracy(present, TRUTH).tolist() == pytest.approx(expected_balanced)


def test_the_loss_of_probabilities_is_the_log_loss_of_scikit_learn() -> None:
    probabilities = GENERATOR.dirichlet(np.ones(5), 60)
    assert cross_entropy(probabilities, TRUTH) == pytest.approx(
        metrics.log_loss(TRUTH, probabilities, labels=[0, 1, 2, 3, 4])
    )


def test_a_model_that_predicts_the_largest_class_has_the_accuracy_of_chance_by_balanced_accuracy() -> None:
    assert scores.accuracy(PREDICTED[:1], TRUTH) == pytest.approx([2 / 3])
    assert scores.balanced_accuracy(PREDICTED[:1], TRUTH) == pytest.approx([1 / 4])


def test_the_resolution_is_the_least_that_one_image_changes() -> None:
    found = {name: score.resolution(TRUTH) for name, score in SCORES.items()}
    assert found == pytest.approx(
        {
            "accuracy": 100 / 60,
            "balanced_accuracy": 100 / (4 * 40),
            "macro_f1": 100 / (2 * 4 * 40),
            "log_loss": 0,
        }
    )


def test_the_differences_of_images_have_the_mean_of_the_difference_of_the_scores() -> None:
    a, b = (made.variant(name, PREDICTED[rows], TRUTH) for name, rows in (("a", slice(2, 5)), ("b", slice(5, 8))))
    for name in ("accuracy", "balanced_accuracy"):
        differences = image_differences(a, b, SCORES[name])
        assert differences is not None
        expected = 100 * (SCORES[name].values(b) - SCORES[name].values(a)).mean()
        assert differences.mean() == pytest.approx(expected)
    for name in ("macro_f1", "log_loss"):
        assert image_differences(a, b, SCORES[name]) is None


def test_labels_of_scores_are_unique() -> None:
    """Results are assigned to their score by its label."""
    assert len({score.label for score in SCORES.values()}) == len(SCORES)


def study_with(*entries: str, score: str = "accuracy") -> params.Params:
    text = made.STUDY.replace("design: open", f"design: open, score: {score}")
    listed = "".join(f"\n  - {{{entry}}}" for entry in entries)
    return params.parse(text.replace("\n  - {a: wide, b: plain}", listed or " []"), "params.yaml")


def test_a_pair_by_two_scores_makes_two_comparisons_of_one_pair() -> None:
    study = study_with("a: wide, b: plain", "a: plain, b: wide, score: macro_f1, margin: 0.5")
    assert [(one.pair, one.score, one.margin) for one in named_comparisons(study)] == [
        (("wide", "plain"), "accuracy", 0.05),
        (("plain", "wide"), "macro_f1", 0.5),
        (("wide", "wider"), "accuracy", 0.05),
        (("ridge", "wide"), "accuracy", 0.05),
    ]
    assert named_pairs(study) == [("wide", "plain"), ("wide", "wider"), ("ridge", "wide")]


def test_a_study_without_a_score_compares_by_accuracy() -> None:
    assert {one.score for one in named_comparisons(made.study())} == {"accuracy"}


@pytest.mark.parametrize(
    ("entry", "score", "expected"),
    [
        (
            "a: wide, b: wider, score: log_loss",
            "accuracy",
            "comparisons: wide:wider by log_loss should have a margin of its own, in nats of log_loss, such as "
            "`margin: 0.5`; statistics.equivalence_margin is in percentage points of accuracy",
        ),
        ("a: ridge, b: wide, score: log_loss, margin: 0.01", "accuracy", "ridge has no log loss: its outputs are not"),
        ("a: wide, b: plain", "log_loss", "ridge has no log loss: its outputs are not probabilities"),
        ("a: wide, b: plain, score: f1, margin: 1.0", "accuracy", "should be one of accuracy, balanced_accuracy, "),
        ("a: wide, b: plain", "auc", "statistics.score: should be one of accuracy, balanced_accuracy, "),
        (
            "a: wider, b: wide, margin: 0.2",
            "accuracy",
            "comparisons: wider:wide by accuracy should have one margin, received 0.2, and 0.05 from approaches",
        ),
    ],
    ids=["margin in another unit", "squared error", "approach", "unknown", "unknown of the study", "two margins"],
)
def test_a_score_that_can_not_be_compared_is_refused_with_the_way_on(entry: str, score: str, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        study_with(entry, score=score)
