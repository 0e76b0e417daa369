"""Runs as a worker trains them: the same bytes whenever, and every field in use."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from stages.recipes.shared import training
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import SavedResult
from tests.conftest import CLASSES, ROOT
from tests.support.documentation import code_block
from tests.support.recipes import LATER, network, ridge

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

Digits = tuple[np.ndarray, np.ndarray]
CONVOLUTIONAL: dict[str, Any] = {"filters": [3], "pool": [True], "conv_dropout": [0.25], "dropout": 0.25}


@pytest.fixture(scope="module")
def few(digits: Digits) -> Digits:
    return digits[0][:300], digits[1][:300]


def trained(recipe: Recipe, few: Digits, seed: int = 0) -> SavedResult:
    validation = np.arange(seed % 5, 300, 5) if recipe.uses_validation else None
    return training.train(recipe, *few, CLASSES, validation=validation, seed=seed, on_epoch=lambda epoch, row: None)


@pytest.mark.parametrize(
    "recipe",
    [
        network(**CONVOLUTIONAL, dev_split=True, patience=2, restore_best=True),
        network(**CONVOLUTIONAL, **LATER),
        ridge(hidden_units=200, weight_sd=0.2, grid_powers=[-14, 12]),
        ridge(),
    ],
    ids=["network", "every later field", "random features", "ridge"],
)
def test_a_run_trained_twice_has_the_same_bytes_whatever_was_trained_between(recipe: Recipe, few: Digits) -> None:
    once = trained(recipe, few)
    trained(network(initializer="glorot_normal", epochs=1), few, seed=5)
    keras.utils.set_random_seed(123)
    np.random.seed(123)  # noqa: NPY002  # what a library might draw from
    again = trained(recipe, few)
    assert again.model == once.model
    assert str((again.curve, again.facts)) == str((once.curve, once.facts))
    assert set(once.facts) == set(recipe.facts)
    assert set(once.curve[0]) <= set(recipe.curve)


def test_a_model_of_ones_own_trained_twice_has_the_same_bytes(few: Digits) -> None:
    """That of docs/models.md, whose layers have the names that Keras counts up."""
    own: dict[str, Any] = {"__name__": "own"}
    exec(code_block("docs/models.md", "python"), own)
    fields = {
        name: value for name, value in network(epochs=1).model_dump().items() if name in own["Recipe"].model_fields
    }
    recipe = own["Recipe"].model_validate({**fields, "family": "residual", "filters": 4, "blocks": 1})
    once = trained(recipe, few)
    trained(network(epochs=1), few, seed=5)
    assert trained(recipe, few).model == once.model
    assert trained(recipe, few, seed=1).model != once.model


def test_two_seeds_train_different_models(few: Digits) -> None:
    one, other = (trained(network(), few, seed) for seed in (0, 1))
    assert one.model != other.model
    assert [row["loss"] for row in one.curve] != [row["loss"] for row in other.curve]


@pytest.fixture(scope="module")
def as_before(few: Digits) -> SavedResult:
    return trained(network(**CONVOLUTIONAL, epochs=1), few)


@pytest.mark.parametrize("name", LATER)
def test_each_later_field_reaches_the_training(name: str, few: Digits, as_before: SavedResult) -> None:
    changed = trained(network(**CONVOLUTIONAL, epochs=1, **{name: LATER[name]}), few)
    assert changed.model != as_before.model
    assert np.isfinite([row["loss"] for row in changed.curve]).all()


def test_a_worker_computes_on_one_thread_and_without_a_gpu() -> None:
    code = """
import tensorflow as tf
from stages.recipes.shared import training
training.prepare()
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
print(len(tf.config.get_visible_devices("GPU")))
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["1", "1", "0"]


def test_the_backend_is_told_without_importing_keras() -> None:
    code = "import sys; from stages.recipes.shared.training import backend; print(backend(), 'keras' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["tensorflow", "False"]
