"""The images and labels that the split stage writes, and each seed's validation split."""

from pathlib import Path

import numpy as np

from many_seeds.errors import UserError
from stages.study import files
from stages.study.paths import DEV


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of data/train.npz or data/test.npz.

    Returns:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        labels: [n], uint8, or uint16 where there are more than 256 classes.

    Raises:
        UserError: the file is missing or damaged.
    """
    arrays = files.read_arrays(path)
    return arrays["images"], arrays["labels"]


def read_groups(path: Path) -> np.ndarray | None:
    """The group of each image of data/test.npz, int32 [n]; None where images are independent.

    Raises:
        UserError: the file is missing or damaged.
    """
    return files.read_arrays(path).get("groups")


def read_classes(path: Path) -> list[str]:
    """The names of the labels 0, 1, … of data/train.npz or data/test.npz.

    Raises:
        UserError: the file is missing or damaged.
    """
    return [str(name) for name in files.read_arrays(path)["classes"]]


def read_validation(seed: int, path: Path = DEV) -> np.ndarray:
    """The validation split of a seed: the sorted indices, int64 [n], of the training images that it sets aside.

    Raises:
        UserError: the file is missing or damaged, or the split stage drew no split for `seed`.
    """
    arrays = files.read_arrays(path)
    rows, images = arrays["dev"], int(arrays["images"])
    if not 0 <= seed < len(rows):
        raise UserError(
            f"{path} has the validation splits of seeds 0 to {len(rows) - 1}, received seed {seed}: set split.seeds in "
            f"params.yaml to at least {seed + 1} and run `dvc repro`"
        )
    return np.flatnonzero(np.unpackbits(rows[seed], count=images)).astype(np.int64)
