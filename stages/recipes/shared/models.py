"""A family's model, built and looked at before it is trained."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from stages.errors import StudyError

Build = Callable[[tuple[int, ...], int, Iterator[int]], Any]


def layer_seeds(seed: int) -> Iterator[int]:
    """A seed for each layer that draws, one after the other.

    Keras draws the seeds of initialisers and dropout from Python's global generator, which other threads of a worker
    share; with seeds of their own, the run's seed alone decides.
    """
    # Key 0 of the run's seed; the batch orders of epoch k have key k + 1.
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    while True:
        yield int(generator.integers(2**31))


def built_twice(build: Build, images: np.ndarray, classes: int, seed: int) -> tuple[keras.Model, keras.Model]:
    """Two equal models: one to train, and one that is not compiled, to be saved with the weights of the other.

    Args:
        build: of the shape of an image, the number of classes and seeds for layers that draw.
        images: uint8, the training images.
        classes: how many there are.
        seed: the run's.

    Raises:
        StudyError: the model does not suit the images and classes, or draws without a seed.
    """
    models = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        models.append(build(images.shape[1:], classes, layer_seeds(seed)))
    _see_that_it_fits(models[0], images[:2], classes)
    for first, second in zip(models[0].variables, models[1].variables, strict=True):
        if not np.array_equal(keras.ops.convert_to_numpy(first), keras.ops.convert_to_numpy(second)):
            raise StudyError(
                f"build draws {first.path} without a seed, so the run's seed would not decide it. Give every "
                "initializer and every layer that draws, such as Dropout, seed=next(seeds)"
            )
    return models[0], models[1]


def _see_that_it_fits(model: Any, images: np.ndarray, classes: int) -> None:
    if not isinstance(model, keras.Model):
        raise StudyError(f"build should return a keras.Model, received {type(model).__name__}")
    for variable in model.trainable_variables:
        if not keras.backend.is_float_dtype(variable.dtype):
            raise StudyError(
                f"the weights of a model should be floating-point, but {variable.path} is {variable.dtype}"
            )
    try:
        outputs = keras.ops.convert_to_numpy(model(images, training=False))
    except Exception as error:  # whatever a layer may raise
        raise StudyError(
            f"the model of build does not take a batch of uint8 images {images.shape}: {type(error).__name__}: {error}"
        ) from error
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    except Exception as error:
        raise StudyError(
            "the model of build could not be loaded again once it is saved: it may have Keras's own layers, without "
            f"functions or classes of yours. {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        ) from error
    if outputs.shape != (len(images), classes):
        raise StudyError(f"build should end in outputs [n, {classes}], one for each class; received {outputs.shape}")
    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise StudyError("the outputs of build should be probabilities: end with activation='softmax'")
