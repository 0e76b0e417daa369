"""Runs as a worker trains them: the same bytes whenever, and every field in use."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

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
    """Five whole batches, and four without a validation split: TensorFlow compiles the step for one shape only."""
    return digits[0][:160], digits[1][:160]


def trained(recipe: Recipe, few: Digits, seed: int = 0) -> SavedResult:
    validation = np.arange(seed % 5, len(few[0]), 5) if recipe.uses_validation else None
    return training.train(recipe, *few, CLASSES, validation=validation, seed=seed, on_epoch=lambda epoch, row: None)


def residual() -> Recipe:
    """A model of one's own, that of docs/models.md, whose layers have the names that Keras counts up."""
    own: dict[str, Any] = {"__name__": "own"}
    exec(code_block("docs/models.md", "python"), own)
    fields = {
        name: value for name, value in network(epochs=1).model_dump().items() if name in own["Recipe"].model_fields
    }
    recipe: Recipe = own["Recipe"].model_validate({**fields, "family": "residual", "filters": 4, "blocks": 1})
    return recipe


SMALL: dict[str, Any] = {"filters": [3], "pool": [True], "conv_dropout": [0.0], "units": [], "epochs": 1}
EARLY: dict[str, Any] = {"dev_split": True, "patience": 2, "restore_best": True}
RECIPES: dict[str, Callable[[], Recipe]] = {
    "network": lambda: network(**SMALL),
    "dropout, early stopping and every later field": lambda: network(**CONVOLUTIONAL, **EARLY, **LATER),
    "random features": lambda: ridge(hidden_units=200, weight_sd=0.2, grid_powers=[-14, 12]),
    "ridge": ridge,
    "a model of one's own": residual,
}


@pytest.fixture(scope="module")
def once(few: Digits) -> dict[str, SavedResult]:
    """All recipes, trained one after the other."""
    return {name: trained(recipe(), few) for name, recipe in RECIPES.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_trained_twice_has_the_same_bytes_whatever_was_trained_between(
    name: str, few: Digits, once: dict[str, SavedResult]
) -> None:
    keras.utils.set_random_seed(123)
    np.random.seed(123)  # noqa: NPY002  # what a library might draw from
    recipe = RECIPES[name]()
    again = trained(recipe, few)
    assert again.model == once[name].model
    assert str((again.curve, again.facts)) == str((once[name].curve, once[name].facts))
    assert set(again.facts) == set(recipe.facts)
    assert set(again.curve[0]) <= set(recipe.curve)


@pytest.mark.parametrize("name", ["network", "a model of one's own"])
def test_two_seeds_train_different_models(name: str, few: Digits, once: dict[str, SavedResult]) -> None:
    other = trained(RECIPES[name](), few, seed=1)
    assert other.model != once[name].model
    assert [row["loss"] for row in other.curve] != [row["loss"] for row in once[name].curve]


@pytest.mark.parametrize("name", LATER)
def test_each_later_field_reaches_the_training(name: str, few: Digits, once: dict[str, SavedResult]) -> None:
    changed = trained(network(**SMALL, **{name: LATER[name]}), few)
    assert changed.model != once["network"].model
    assert np.isfinite([row["loss"] for row in changed.curve]).all()


def test_a_worker_computes_on_one_thread_and_without_a_gpu() -> None:
    """This process is prepared as a worker, by `tensorflow_ready`."""
    threading = tf.config.threading
    assert (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()) == (1, 1)
    assert tf.config.get_visible_devices("GPU") == []


def test_the_backend_is_told_without_importing_keras() -> None:
    code = "import sys; from stages.recipes.shared.training import backend; print(backend(), 'keras' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["tensorflow", "False"]
