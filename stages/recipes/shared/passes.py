"""One epoch of training in a given order, and one look at the dev split, for the Keras backend in use."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from stages.recipes.shared.augmentation import Augment, Augmenter

DEV_BATCH = 500

Scores = dict[str, float]
Data = tuple[np.ndarray, np.ndarray]  # images and labels
TrainPass = Callable[[np.ndarray, float | np.ndarray], Scores]  # of the order, and the rate of the epoch or its steps
DevPass = Callable[[], Scores]


def passes(
    model: keras.Model,
    optimizer: keras.Optimizer,
    train: Data,
    dev: Data | None,
    *,
    batch_size: int,
    label_smoothing: float,
    augment: Augment | None,
    seed: int,
) -> tuple[TrainPass, DevPass | None]:
    """The two passes over images uint8 and labels, as functions that return the mean loss and accuracy."""
    model.compile(
        optimizer,
        loss=smoothed_cross_entropy(label_smoothing) if label_smoothing else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA makes convolutions on the CPU ten times slower; JAX has nothing else.
        jit_compile=keras.backend.backend() == "jax",
    )
    augmenter = None if augment is None else Augmenter(augment, train[0].shape[1:3], augmenter_seed(seed))
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_passes(model, train, dev, batch_size, augmenter)
    return _keras_passes(model, train, dev, batch_size, augmenter)


def augmenter_seed(seed: int) -> int:
    """The seed of a run's augmentation, apart from those of its layers and batch orders."""
    return int(np.random.SeedSequence([seed, 0], spawn_key=(1,)).generate_state(1)[0] >> 1)


def smoothed_cross_entropy(smoothing: float) -> Callable[[Any, Any], Any]:
    """Cross-entropy with `smoothing` of each target spread over all classes (Szegedy et al. 2016, section 7)."""

    def loss(labels: Any, probabilities: Any) -> Any:
        logs = keras.ops.log(keras.ops.clip(probabilities, keras.config.epsilon(), 1.0))
        of_label = keras.ops.take_along_axis(logs, keras.ops.cast(keras.ops.reshape(labels, (-1, 1)), "int32"), axis=1)
        return -(1 - smoothing) * of_label[:, 0] - smoothing * keras.ops.mean(logs, axis=1)

    return loss


def _tensorflow_passes(
    model: keras.Model, train: Data, dev: Data | None, batch_size: int, augmenter: Augmenter | None
) -> tuple[TrainPass, DevPass | None]:
    # TensorFlow need not be there for other backends.
    from stages.recipes.shared.tensorflow_passes import batch_pass

    model.optimizer.build(model.trainable_variables)
    show = batch_pass(
        model.train_step, *train, batch_size, augment=augmenter, learning_rate=model.optimizer._learning_rate
    )

    def train_pass(order: np.ndarray, rate: float | np.ndarray) -> Scores:
        model.reset_metrics()
        if isinstance(rate, float):
            model.optimizer.learning_rate = rate
            show(order)
        else:
            show(order, rate)
        return _floats(model.get_metrics_result())

    if dev is None:
        return train_pass, None
    test = batch_pass(model.test_step, *dev, DEV_BATCH)
    in_order = np.arange(len(dev[0]))

    def dev_pass() -> Scores:
        model.reset_metrics()
        test(in_order)
        return _floats(model.get_metrics_result())

    return train_pass, dev_pass


def _keras_passes(
    model: keras.Model, train: Data, dev: Data | None, batch_size: int, augmenter: Augmenter | None
) -> tuple[TrainPass, DevPass | None]:
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
        shown = images[order]
        if augmenter is not None:
            blocks = np.array_split(shown, max(1, len(shown) // 1000))
            shown = np.concatenate([keras.ops.convert_to_numpy(augmenter(block)) for block in blocks])
        history = model.fit(
            shown, labels[order], batch_size=batch_size, epochs=1, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        return {name: float(values[0]) for name, values in history.items()}

    def dev_pass() -> Scores:
        assert dev is not None
        return _floats(model.evaluate(*dev, batch_size=DEV_BATCH, verbose=0, return_dict=True))

    return train_pass, dev_pass if dev else None


def _floats(scores: dict[str, Any]) -> Scores:
    return {name: float(value) for name, value in scores.items()}
