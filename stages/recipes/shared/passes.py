"""A pass over the training images in a given order, and one over the validation split, for the Keras backend in use."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from stages.recipes.shared.augmentation import Augment, Augmenter

VALIDATION_BATCH = 500

Scores = dict[str, float]  # the means of "loss" and "accuracy"
Data = tuple[np.ndarray, np.ndarray]  # images and labels
TrainPass = Callable[[np.ndarray, float | np.ndarray], Scores]  # of the order, and the rate of the epoch or its steps
ValidationPass = Callable[[], Scores]


def passes(
    model: keras.Model,
    optimizer: keras.Optimizer,
    train: Data,
    validation: Data | None,
    *,
    batch_size: int,
    label_smoothing: float,
    augment: Augment | None,
    seed: int,
) -> tuple[TrainPass, ValidationPass | None]:
    """Compile the model for training.

    Args:
        model: from uint8 images [n, …] to class probabilities [n, classes].
        optimizer: of its weights.
        train: images, uint8 [n, height, width] or [n, height, width, 3], and labels, uint8 or uint16 [n].
        validation: images and labels of the validation split, or None.
        batch_size: the number of images in a step.
        label_smoothing: the share of each target that is spread over all classes.
        augment: random changes of the training images, or None.
        seed: of the run.

    Returns:
        A function that trains for an epoch, and one that evaluates on the validation split or None.
    """
    model.compile(
        optimizer,
        loss=smoothed_cross_entropy(label_smoothing) if label_smoothing else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA makes convolutions on the CPU ten times slower; JAX has nothing else.
        jit_compile=keras.backend.backend() == "jax",
    )
    augmenter = None if augment is None else Augmenter(augment, train[0].shape[1:3], augmenter_seed(seed))
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_passes(model, train, validation, batch_size, augmenter)
    return _keras_passes(model, train, validation, batch_size, augmenter)


def augmenter_seed(seed: int) -> int:
    """The seed of a run's augmentation, independent of those of its layers and batch orders."""
    return int(np.random.SeedSequence([seed, 0], spawn_key=(1,)).generate_state(1)[0] >> 1)


def smoothed_cross_entropy(smoothing: float) -> Callable[[Any, Any], Any]:
    """Cross-entropy with `smoothing` of each target spread over all classes (Szegedy et al. 2016, section 7).

    Returns:
        A function of labels [n] and probabilities [n, classes] to losses [n].
    """

    def loss(labels: Any, probabilities: Any) -> Any:
        logs = keras.ops.log(keras.ops.clip(probabilities, keras.config.epsilon(), 1.0))
        of_label = keras.ops.take_along_axis(logs, keras.ops.cast(keras.ops.reshape(labels, (-1, 1)), "int32"), axis=1)
        return -(1 - smoothing) * of_label[:, 0] - smoothing * keras.ops.mean(logs, axis=1)

    return loss


def _tensorflow_passes(
    model: keras.Model, train: Data, validation: Data | None, batch_size: int, augmenter: Augmenter | None
) -> tuple[TrainPass, ValidationPass | None]:
    # TensorFlow is not installed with every backend.
    from stages.recipes.shared.tensorflow_passes import batch_pass

    model.optimizer.build(model.trainable_variables)
    train_batches = batch_pass(
        model.train_step, *train, batch_size, augment=augmenter, learning_rate=model.optimizer._learning_rate
    )

    def train_pass(order: np.ndarray, rate: float | np.ndarray) -> Scores:
        model.reset_metrics()
        if isinstance(rate, float):
            model.optimizer.learning_rate = rate
            train_batches(order)
        else:
            train_batches(order, rate)
        return _floats(model.get_metrics_result())

    if validation is None:
        return train_pass, None
    test_batches = batch_pass(model.test_step, *validation, VALIDATION_BATCH)
    in_order = np.arange(len(validation[0]))

    def validation_pass() -> Scores:
        model.reset_metrics()
        test_batches(in_order)
        return _floats(model.get_metrics_result())

    return train_pass, validation_pass


def _keras_passes(
    model: keras.Model, train: Data, validation: Data | None, batch_size: int, augmenter: Augmenter | None
) -> tuple[TrainPass, ValidationPass | None]:
    images, labels = train

    def train_pass(order: np.ndarray, rate: float | np.ndarray) -> Scores:
        callbacks = []
        if isinstance(rate, float):
            model.optimizer.learning_rate = rate
        else:
            steps = rate
            callbacks.append(
                keras.callbacks.LambdaCallback(
                    on_train_batch_begin=lambda batch, logs: setattr(
                        model.optimizer, "learning_rate", float(steps[batch])
                    )
                )
            )
        ordered = images[order]
        if augmenter is not None:
            blocks = np.array_split(ordered, max(1, len(ordered) // 1000))
            ordered = np.concatenate([keras.ops.convert_to_numpy(augmenter(block)) for block in blocks])
        history = model.fit(
            ordered, labels[order], batch_size=batch_size, epochs=1, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        return {name: float(values[0]) for name, values in history.items()}

    def validation_pass() -> Scores:
        assert validation is not None
        return _floats(model.evaluate(*validation, batch_size=VALIDATION_BATCH, verbose=0, return_dict=True))

    return train_pass, validation_pass if validation else None


def _floats(scores: dict[str, Any]) -> Scores:
    return {name: float(value) for name, value in scores.items()}
