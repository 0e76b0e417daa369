"""Split stage: raw files into arrays, training and test apart, and the dev images of every seed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from many_seeds import console
from many_seeds.errors import UserError
from stages.split import cifar10, folders, idx, npz
from stages.split.halves import (
    TEST_FRACTION,
    Halves,
    Labelled,
    check_classes,
    check_labelled,
    check_same_shape,
    class_names,
    draw_test,
)
from stages.study import files, params, paths
from stages.study.data import Contents, read_contents

Reader = Callable[[Mapping[str, Path], Mapping[str, str], list[str] | None], Halves]
READERS: dict[str, Reader] = {"idx": idx.read, "npz": npz.read, "folders": folders.read, "cifar10": cifar10.read}


def dev_indices(images: int, dev_fraction: float, seed: int) -> np.ndarray:
    """The sorted indices, int64 [dev images], of the training images that `seed` sets aside.

    Raises:
        UserError: `dev_fraction` of so few images leaves nothing on one side.
    """
    try:
        _, dev = train_test_split(np.arange(images), test_size=dev_fraction, random_state=seed)
    except ValueError as error:
        raise UserError(f"split.dev_fraction {dev_fraction:g} does not suit {images:,} images: {error}") from error
    return np.sort(dev)


def dev_bits(images: int, dev_fraction: float, seeds: int) -> np.ndarray:
    """The dev images of seeds 0 … `seeds` - 1 as bits, uint8 [seeds, images / 8]: a row a seed, a bit an image."""
    rows = np.empty((seeds, -(-images // 8)), np.uint8)
    for seed in range(seeds):
        chosen = np.zeros(images, bool)
        chosen[dev_indices(images, dev_fraction, seed)] = True
        rows[seed] = np.packbits(chosen)
    return rows


def read_halves(contents: Contents, raw: Path) -> tuple[Labelled, Labelled, list[str]]:
    """The checked training and test images of what lies in `raw`, and the names of their classes.

    Raises:
        UserError: they can't be a study's; the message says why.
    """
    files = {part: raw / name for part, name in contents.files.items()}
    halves = READERS[contents.format](files, contents.sources, contents.classes)
    train, test = halves.train, halves.test
    check_labelled("train", train)
    if test is not None:
        check_labelled("test", test)
        check_same_shape(train.images, test.images)
    classes = class_names(halves.classes, train, *([test] if test else []))
    if test is None:
        check_classes(classes, "train", train.labels)
        train, test = draw_test(train, classes, contents.test_fraction or TEST_FRACTION, contents.test_seed)
    elif contents.test_fraction is not None:
        raise UserError("data.test_fraction draws a test set, but the data have one of their own: remove it")
    for half, data in (("train", train), ("test", test)):
        check_classes(classes, half, data.labels)
    return train, test, classes


def split(dev_fraction: float, seeds: int) -> None:
    """Write data/train.npz, data/test.npz, and the dev images of seeds 0 … `seeds` - 1."""
    train, test, classes = read_halves(read_contents(), paths.RAW)
    dev = dev_bits(len(train.labels), dev_fraction, seeds)
    labels = np.uint8 if len(classes) <= 256 else np.uint16
    for path, data in ((paths.TRAIN, train), (paths.TEST, test)):
        files.write_arrays(
            path, images=data.images, labels=data.labels.astype(labels, copy=False), classes=np.array(classes)
        )
    files.write_arrays(paths.DEV, dev=dev, images=np.array(len(train.labels), np.int64))


@console.command
def main() -> None:
    console.take_no_arguments("stages.split", __doc__)
    study = params.load()
    split(study.split.dev_fraction, study.split.seeds)


if __name__ == "__main__":
    main()
