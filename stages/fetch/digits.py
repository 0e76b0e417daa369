"""The digits of scikit-learn in MNIST's format: handwriting that needs no download, for demos and tests.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

# The last fifth. The images are sorted by writer, so most test images are by writers that are not in the training set.
TEST_IMAGES = 360


def digits_files() -> dict[str, bytes]:
    """The data set as part → content of its IDX file: 1,437 training and 360 test images, and their labels."""
    bunch = load_digits()
    images = np.stack([_scale(image) for image in bunch.images])
    labels = bunch.target.astype(np.uint8)
    cut = len(images) - TEST_IMAGES
    return {
        "train_images": idx_bytes(images[:cut]),
        "train_labels": idx_bytes(labels[:cut]),
        "test_images": idx_bytes(images[cut:]),
        "test_labels": idx_bytes(labels[cut:]),
    }


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array in the IDX format: two zero bytes, type 8, the number of axes, their lengths, the values."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.tobytes()


def _scale(image: np.ndarray) -> np.ndarray:
    """An image float [8, 8] with values from 0 to 16 as uint8 [28, 28] with values from 0 to 255."""
    grey = Image.fromarray((image * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((28, 28), Image.Resampling.BILINEAR))
