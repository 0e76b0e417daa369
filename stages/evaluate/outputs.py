"""A model's outputs on images, and the labels that they give."""

import numpy as np

BATCH = 500


def predict(model, images: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Outputs float32 [n, classes] for images uint8 [n, height, width] or [n, height, width, 3]."""
    import keras

    batches = [model(images[start : start + BATCH], training=False) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(keras.ops.convert_to_numpy(batch), np.float32) for batch in batches])


def labels_of(outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(axis=1).astype(np.uint8 if outputs.shape[1] <= 256 else np.uint16)
