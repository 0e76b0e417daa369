"""The outputs of a model on images, and the predicted labels."""

import numpy as np

BATCH = 500


def predict(model, images: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The outputs of a model, in batches.

    Args:
        model: the keras.Model.
        images: uint8 [n, height, width] or [n, height, width, 3].

    Returns:
        float32 [n, classes].
    """
    import keras

    batches = [model(images[start : start + BATCH], training=False) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(keras.ops.convert_to_numpy(batch), np.float32) for batch in batches])


def labels_of(outputs: np.ndarray) -> np.ndarray:
    """The predicted labels, uint8 or with more than 256 classes uint16 [n], for outputs [n, classes]."""
    return outputs.argmax(axis=1).astype(np.uint8 if outputs.shape[1] <= 256 else np.uint16)
