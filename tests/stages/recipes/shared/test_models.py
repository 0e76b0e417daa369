"""What a person's `build` may return, and what is refused before the first epoch."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import initializers, layers

from many_seeds.errors import UserError
from stages.recipes.shared.models import build_and_check, layer_seeds
from tests.support.recipes import network

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

IMAGES = np.arange(5 * 8 * 6, dtype=np.uint8).reshape(5, 8, 6)
Shape = tuple[int, ...]


def built(build: Callable[[Shape, int, Iterator[int]], Any], seed: int = 0) -> tuple[keras.Model, keras.Model]:
    return build_and_check(build, IMAGES, 3, seed)


def dense(seeds: Iterator[int], units: int = 3, **options: Any) -> layers.Dense:
    return layers.Dense(units, kernel_initializer=initializers.GlorotUniform(seed=next(seeds)), **options)


def with_layers(*middle: Callable[[Iterator[int]], Any], units: int = 3, activation: str | None = "softmax") -> Any:
    def build(shape: Shape, classes: int, seeds: Iterator[int]) -> keras.Model:
        stack = [layers.Input(shape, dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten()]
        stack += [make(seeds) for make in middle]
        return keras.Sequential([*stack, dense(seeds, units, activation=activation)])

    return build


def test_both_models_have_the_weights_of_the_seed() -> None:
    one, other = built(network(units=[4]).build, seed=3)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    different = built(network(units=[4]).build, seed=4)[0].get_weights()
    assert not np.array_equal(one.get_weights()[0], different[0])


def test_a_functional_model_with_a_residual_connection_is_taken() -> None:
    def build(shape: Shape, classes: int, seeds: Iterator[int]) -> keras.Model:
        pixels = layers.Input(shape, dtype="uint8")
        first = dense(seeds, 8, activation="relu")(layers.Flatten()(layers.Rescaling(1 / 255)(pixels)))
        sum_ = layers.Add()([first, dense(seeds, 8)(first)])
        return keras.Model(pixels, dense(seeds, classes, activation="softmax")(sum_))

    assert built(build)[0].output_shape == (None, 3)


def scaled(images: Any) -> Any:
    return images / 255


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda *_: None, "build should return a keras.Model, received NoneType"),
        (lambda *_: layers.Dense(3), "build should return a keras.Model, received Dense"),
        (with_layers(units=10), r"build should end in outputs \[n, 3\], one for each class; received \(2, 10\)"),
        (with_layers(activation=None), "should be probabilities: end with activation='softmax'"),
        (with_layers(activation="sigmoid"), "should be probabilities: end with activation='softmax'"),
        (
            with_layers(lambda _: layers.Dense(4, name="middle")),
            r"build draws .*middle/kernel without a seed.*seed=next\(seeds\)",
        ),
        (with_layers(lambda _: layers.Dropout(0.5, name="drop")), r"build draws .* without a seed.*such as Dropout"),
        (with_layers(lambda _: layers.GaussianNoise(0.5)), "build draws .* without a seed"),
        (with_layers(lambda _: layers.Lambda(scaled)), r"could not be loaded again after saving.*Keras's own"),
        (
            lambda shape, classes, seeds: keras.Sequential(
                [layers.Input((*shape, 3)), layers.Flatten(), dense(seeds, activation="softmax")]
            ),
            r"does not take a batch of uint8 images \(2, 8, 6\): ValueError",
        ),
    ],
    ids=[
        *["nothing", "a layer", "too many outputs", "no softmax", "a sigmoid", "an initializer without seed"],
        *["dropout without seed", "noise without seed", "a function of its own", "other images"],
    ],
)
def test_a_model_that_does_not_suit_is_refused_before_the_first_epoch(build: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        built(build)


class Own(layers.Layer):  # not registered with Keras
    def call(self, inputs: Any) -> Any:
        return inputs


def test_a_layer_of_the_persons_own_is_refused_because_it_cannot_be_loaded_again() -> None:
    with pytest.raises(UserError, match="could not be loaded again after saving"):
        built(with_layers(lambda _: Own()))


def test_weights_that_are_not_float_are_refused_by_their_name() -> None:
    class Whole(layers.Layer):
        def build(self, shape: Any) -> None:
            self.add_weight(shape=(1,), dtype="int32", initializer="ones", name="steps")

        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(UserError, match=r"weights of a model should be floating-point, but .*steps is int32"):
        built(with_layers(lambda _: Whole()))


def test_the_seeds_of_layers_are_the_runs_and_no_two_are_the_same() -> None:
    drawn = [next(seeds) for seeds in [layer_seeds(0)] for _ in range(100)]
    seeds = layer_seeds(0)
    assert [next(seeds) for _ in range(100)] == drawn
    assert len(set(drawn)) == 100
    assert next(layer_seeds(1)) != drawn[0]
