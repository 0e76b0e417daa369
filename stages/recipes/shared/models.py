"""Build the model of a recipe, and check it before it is trained."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from many_seeds.errors import UserError

Build = Callable[[tuple[int, ...], int, Iterator[int]], Any]


def layer_seeds(seed: int) -> Iterator[int]:
    """Seeds for the layers and initializers that draw random numbers, one after the other.

    Keras draws default seeds from Python's global generator, which other threads of a worker share. With seeds of
    their own, the layers depend on the run's seed alone.
    """
    # Key 0 of the run's seed; the batch orders of epoch k have key k + 1.
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    while True:
        yield int(generator.integers(2**31))


def build_and_check(build: Build, images: np.ndarray, classes: int, seed: int) -> tuple[keras.Model, keras.Model]:
    """Build the model twice, from two global seeds, and check that both are equal and suit the images.

    Args:
        build: `KerasRecipe.build`.
        images: uint8 [n, height, width] or [n, height, width, 3], the training images.
        classes: the number of classes.
        seed: of the run.

    Returns:
        Two equal models: one to train, and one that is not compiled, to be saved with the weights of the other.

    Raises:
        UserError: the model does not suit the images and classes, or draws random numbers without a seed.
    """
    models = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        models.append(build(images.shape[1:], classes, layer_seeds(seed)))
    check_model(models[0], images[:2], classes)
    for first, second in zip(models[0].variables, models[1].variables, strict=True):
        if not np.array_equal(keras.ops.convert_to_numpy(first), keras.ops.convert_to_numpy(second)):
            raise UserError(
                f"build draws {first.path} without a seed, so the run's seed would not decide it. Give every "
                "initializer and every layer that draws, such as Dropout, seed=next(seeds)"
            )
    return models[0], models[1]


def check_model(model: Any, images: np.ndarray, classes: int) -> None:
    """Check that the model can be trained, saved and evaluated.

    Args:
        model: what `build` returned.
        images: uint8 [n, height, width] or [n, height, width, 3], a few of the training images.
        classes: the number of classes.

    Raises:
        UserError: it can't.
    """
    if not isinstance(model, keras.Model):
        raise UserError(f"build should return a keras.Model, received {type(model).__name__}")
    for variable in model.trainable_variables:
        if not keras.backend.is_float_dtype(variable.dtype):
            raise UserError(f"the weights of a model should be floating-point, but {variable.path} is {variable.dtype}")
    try:
        outputs = keras.ops.convert_to_numpy(model(images, training=False))
    except Exception as error:  # a layer may raise anything
        raise UserError(
            f"the model of build does not take a batch of uint8 images {images.shape}: {type(error).__name__}: {error}"
        ) from error
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    except Exception as error:
        raise UserError(
            "the model of build could not be loaded again after saving: use Keras's own layers, without functions or "
            f"classes of yours. {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        ) from error
    if outputs.shape != (len(images), classes):
        raise UserError(f"build should end in outputs [n, {classes}], one for each class; received {outputs.shape}")
    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise UserError("the outputs of build should be probabilities: end with activation='softmax'")
