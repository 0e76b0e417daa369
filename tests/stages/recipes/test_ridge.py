import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import Ridge

from stages.recipes.ridge import as_keras, fit_ridge, golden_section, hidden_weights, reduce, search_alpha, solve
from tests.support.recipes import ridge


@pytest.fixture(scope="module")
def few(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return digits[0][:400], digits[1][:400]


@pytest.mark.parametrize("alpha", [2.0**-10, 1.0, 40.0])
def test_the_reduced_problem_has_the_solution_of_the_whole(alpha: float) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(3, 2, (200, 20))
    features[:, 4] = 1.0  # a constant one, such as a pixel that no digit touches
    labels = generator.integers(0, 10, 200)
    kernel, bias = solve(reduce(features, labels, 10), alpha)
    whole = Ridge(alpha=alpha, fit_intercept=True, solver="svd").fit(features, np.eye(10)[labels])
    np.testing.assert_allclose(kernel, whole.coef_.T, atol=1e-10)
    np.testing.assert_allclose(bias, whole.intercept_, atol=1e-10)


def test_reducing_works_with_fewer_rows_than_features() -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(15, 40)), np.arange(15) % 10
    kernel, bias = solve(reduce(features, labels, 10), 0.5)
    whole = Ridge(alpha=0.5, solver="svd").fit(features, np.eye(10)[labels])
    np.testing.assert_allclose(features @ kernel + bias, whole.predict(features), atol=1e-10)


@pytest.mark.parametrize("minimum", [0.31, 2.0, 4.9])
def test_golden_section_finds_a_minimum(minimum: float) -> None:
    tried = []

    def loss(x: float) -> float:
        tried.append(x)
        return abs(x - minimum)

    assert abs(golden_section(loss, 0.0, 5.0, 0.01) - minimum) < 0.01
    # Each try after the first two shrinks the interval by 0.618: 5 * 0.618^12 / 2 is the first under 0.01.
    assert len(tried) == 2 + math.ceil(math.log(0.01 / 2.5) / math.log((5**0.5 - 1) / 2))
    assert all(0 < x < 5 for x in tried)


def test_the_search_finds_the_alpha_of_each_target() -> None:
    def score(alpha: float) -> dict[str, float]:
        return {"val_loss": abs(alpha - 5.0), "val_accuracy": 1 - abs(alpha - 21.0) / 8192}

    rows, best = search_alpha(score, (-2, 10), 0.05)
    assert best["mse"] == pytest.approx(5.0, abs=0.05)
    assert best["accuracy"] == pytest.approx(21.0, abs=0.05)
    grid = [row["alpha"] for row in rows if row["search"] == "grid"]
    assert grid == [2.0**power for power in range(-2, 11)]
    for target, low, high in (("mse", 2, 8), ("accuracy", 8, 32)):
        tried = [float(row["alpha"]) for row in rows if row["search"] == target]
        assert tried
        assert low < min(tried) < max(tried) < high


def test_equal_accuracies_are_told_apart_by_the_dev_error() -> None:
    _, best = search_alpha(lambda alpha: {"val_loss": abs(alpha - 5.0), "val_accuracy": 0.9}, (-2, 10), 0.05)
    assert best["accuracy"] == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize("optimum", [0.01, 5000.0])
def test_an_optimum_beyond_the_grid_is_found(optimum: float) -> None:
    rows, best = search_alpha(
        lambda alpha: {"val_loss": abs(alpha - optimum), "val_accuracy": 0.5}, (-2, 10), 0.1 * optimum
    )
    assert best["mse"] == pytest.approx(optimum, rel=0.1)
    grid = [float(row["alpha"]) for row in rows if row["search"] == "grid"]
    assert min(grid) < optimum < max(grid)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_loss_without_a_minimum_ends_at_the_largest_or_smallest_alpha_allowed(sign: int) -> None:
    _, best = search_alpha(lambda alpha: {"val_loss": sign * alpha, "val_accuracy": 0.5}, (-2, 10), 1e-6)
    assert np.log2(best["mse"]) == pytest.approx(-60 * sign, abs=1)


def test_images_without_a_signal_are_fitted(tensorflow_ready: None) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 4, 4), dtype=np.uint8)
    labels = generator.permutation(300).astype(np.uint8) % 3
    model, rows, best, scores = fit_ridge(
        images, labels, 3, np.arange(0, 300, 5), grid_powers=(-4, 4), tolerance=0.1, hidden=None
    )
    assert model(images).shape == (300, 3)
    assert best["mse"] > 2**4
    assert 0 < scores["val_accuracy"] < 0.7
    assert len(rows) < 500


def test_every_seed_has_hidden_weights_of_its_own_with_the_spread_asked_for() -> None:
    weights = hidden_weights(784, 300, 0.2, seed=0)
    assert weights.shape == (784, 300)
    assert weights.dtype == np.float32
    assert weights.std() == pytest.approx(0.2, rel=0.01)
    np.testing.assert_array_equal(weights, hidden_weights(784, 300, 0.2, seed=0))
    assert not np.array_equal(weights, hidden_weights(784, 300, 0.2, seed=1))


@pytest.mark.usefixtures("tensorflow_ready")
@pytest.mark.parametrize("hidden", [None, hidden_weights(784, 30, 0.2, seed=0)], ids=["linear", "elm"])
def test_the_model_is_ridge_regression_on_all_images_with_the_alpha_found(
    hidden: np.ndarray | None, few: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = few
    validation = np.arange(0, 400, 5)
    model, rows, best, val_scores = fit_ridge(
        images, labels, 10, validation, grid_powers=(-8, 12), tolerance=0.5, hidden=hidden
    )
    features = images.reshape(400, -1) / 255
    if hidden is not None:
        features = np.maximum(features @ hidden, 0)
    targets = np.eye(10)[labels]
    whole = Ridge(alpha=best["accuracy"], solver="svd").fit(features, targets)
    np.testing.assert_allclose(np.asarray(model(images)), whole.predict(features), atol=1e-4)

    kept = np.setdiff1d(np.arange(400), validation)
    part = Ridge(alpha=best["accuracy"], solver="svd").fit(features[kept], targets[kept])
    outputs = part.predict(features[validation])
    assert val_scores["val_accuracy"] == pytest.approx((outputs.argmax(axis=1) == labels[validation]).mean())
    assert val_scores["val_loss"] == pytest.approx(((outputs - targets[validation]) ** 2).mean())
    # No alpha of the grid beats the one found, on the validation split.
    best_on_grid = max(float(row["val_accuracy"]) for row in rows if row["search"] == "grid")
    assert val_scores["val_accuracy"] >= best_on_grid - 2 / len(validation)


@pytest.mark.usefixtures("tensorflow_ready")
def test_a_kernel_becomes_a_keras_model_from_grey_values() -> None:
    generator = np.random.default_rng(0)
    kernel, bias = generator.normal(size=(784, 10)), generator.normal(size=10)
    images = generator.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    outputs = np.asarray(as_keras((28, 28), kernel, bias, None)(images))
    np.testing.assert_allclose(outputs, images.reshape(6, -1) / 255 @ kernel + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("tensorflow_ready")
@pytest.mark.parametrize("hidden", [{}, {"hidden_units": 30, "weight_sd": 0.2}], ids=["linear", "elm"])
def test_any_size_colour_and_number_of_classes_is_fitted(hidden: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(90, dtype=np.uint8) % 3
    images = (generator.integers(0, 60, (90, 6, 5, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    fitted = ridge(grid_powers=[-16, 16], **hidden).fit(
        images, labels, 3, validation=np.arange(0, 90, 5), seed=0, on_epoch=lambda epoch, row: None
    )
    outputs = np.asarray(fitted.model(images))
    assert outputs.shape == (90, 3)
    assert (outputs.argmax(axis=1) == labels).mean() > 0.9
    assert fitted.facts.keys() == set(ridge().facts)
    assert set(ridge().curve) == set(fitted.curve[0])


@pytest.mark.usefixtures("tensorflow_ready")
def test_shown_are_the_weights_of_each_class_where_a_pixel_has_one_weight() -> None:
    generator = np.random.default_rng(0)
    kernel, bias = generator.normal(size=(30, 4)), np.zeros(4)
    shown = ridge().class_images(as_keras((6, 5), kernel, bias, None))
    assert shown is not None
    np.testing.assert_allclose(shown[2].ravel(), kernel[:, 2], rtol=1e-6)
    assert ridge().class_images(as_keras((2, 5, 3), kernel, bias, None)) is None  # in colour
    elm = ridge(hidden_units=30, weight_sd=0.2)
    assert elm.class_images(as_keras((6, 5), kernel, bias, np.zeros((30, 30)))) is None


@pytest.mark.parametrize("half", [{"hidden_units": 30}, {"weight_sd": 0.2}])
def test_hidden_units_and_the_spread_of_their_weights_belong_together(half: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="hidden_units and weight_sd belong together"):
        ridge(**half)
