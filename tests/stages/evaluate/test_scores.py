import math

import numpy as np
import pytest

from stages.evaluate.scores import calibration, cross_entropy, hardest, squared_error


def test_cross_entropy_is_the_mean_surprise_in_nats() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]], np.float32)
    truth = np.array([0, 2, 1], np.uint8)
    expected = (math.log(2) - math.log(0.8) - math.log(1 - 1e-7)) / 3
    assert cross_entropy(probabilities, truth) == pytest.approx(expected, rel=1e-6)


def test_a_probability_of_zero_for_the_truth_costs_a_finite_loss() -> None:
    assert cross_entropy(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(7 * math.log(10))


def test_cross_entropy_is_that_of_keras(tensorflow_ready: None) -> None:
    import keras

    generator = np.random.default_rng(0)
    outputs = generator.dirichlet(np.full(10, 0.2), 500).astype(np.float32)
    truth = generator.integers(0, 10, 500)
    theirs = float(keras.ops.mean(keras.losses.sparse_categorical_crossentropy(truth, outputs)))
    assert cross_entropy(outputs, truth) == pytest.approx(theirs, rel=1e-4)


def test_squared_error_is_the_mean_over_images_and_classes() -> None:
    outputs = np.array([[1.0, 0.5], [-1.0, 0.0]], np.float32)
    # Against [1, 0] and [0, 1]: 0, 0.25, 1, 1.
    assert squared_error(outputs, np.array([0, 1], np.uint8)) == pytest.approx(2.25 / 4)


def test_calibration_counts_images_by_the_probability_of_their_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.05, 0.95], [0.4, 0.6], [1.0, 0.0]])
    truth = np.array([0, 1, 1, 1, 0])
    table = calibration(probabilities, truth)
    # Of 15 bins: 0.6 closes bin 8; 0.9 and 0.92 lie in bin 13 (0.867, 0.933]; 0.95 and 1 in bin 14.
    assert list(table.columns) == ["bin", "images", "confidence", "accuracy"]
    assert table["bin"].tolist() == [8, 13, 14]
    assert table["images"].tolist() == [1, 2, 2]
    np.testing.assert_allclose(table["confidence"], [0.6, 0.91, 0.975])
    np.testing.assert_allclose(table["accuracy"], [1.0, 0.5, 1.0])


def test_the_hardest_images_are_those_that_most_runs_get_wrong_and_of_equal_ones_the_first() -> None:
    truth = np.array([0, 1, 2, 3, 4], np.uint8)
    predicted = np.array([[0, 9, 2, 9, 4], [0, 1, 9, 9, 4], [0, 1, 2, 9, 4]], np.uint8)
    assert hardest(predicted, truth, 3).tolist() == [3, 1, 2]
    assert hardest(predicted, truth, 99).tolist() == [3, 1, 2, 0, 4]
