"""The split: raw files as arrays of training and test images, and the validation split of every seed."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from many_seeds.errors import UserError
from stages.split import cifar10, duplicates, folders, groups, idx, npz
from stages.split.dataset import (
    TEST_FRACTION,
    Dataset,
    LabeledImages,
    check_classes,
    check_images,
    check_same_shape,
    class_names,
    draw_test,
)
from stages.study import files, paths
from stages.study.data import Contents, read_contents
from stages.study.records.data_summary import write_summary

Reader = Callable[[Mapping[str, Path], Mapping[str, str], list[str] | None], Dataset]
READERS: dict[str, Reader] = {"idx": idx.read, "npz": npz.read, "folders": folders.read, "cifar10": cifar10.read}


def validation_indices(images: int, dev_fraction: float, seed: int, of_groups: np.ndarray | None = None) -> np.ndarray:
    """The validation split of a seed: the sorted indices, int64 [n], of the training images that it sets aside.

    Args:
        images: the number of training images.
        dev_fraction: the fraction of them that is set aside.
        seed: of the draw.
        of_groups: the group of each image [images], so that groups stay together; None if images are independent.

    Raises:
        UserError: `dev_fraction` of so few images leaves one side empty, or there are too few groups.
    """
    if of_groups is not None:
        return groups.draw_groups(of_groups, dev_fraction, seed)
    try:
        _, validation = train_test_split(np.arange(images), test_size=dev_fraction, random_state=seed)
    except ValueError as error:
        raise UserError(f"split.dev_fraction {dev_fraction:g} does not suit {images:,} images: {error}") from error
    return np.sort(validation)


def validation_bits(images: int, dev_fraction: float, seeds: int, of_groups: np.ndarray | None = None) -> np.ndarray:
    """The validation splits of seeds 0 … `seeds` - 1, uint8 [seeds, images / 8]: a bit for each image."""
    rows = np.empty((seeds, -(-images // 8)), np.uint8)
    for seed in range(seeds):
        chosen = np.zeros(images, bool)
        chosen[validation_indices(images, dev_fraction, seed, of_groups)] = True
        rows[seed] = np.packbits(chosen)
    return rows


def read_dataset(contents: Contents, raw: Path) -> tuple[LabeledImages, LabeledImages, list[str]]:
    """Read and check the data set in the folder `raw`: training images, test images, and the names of the classes.

    Raises:
        UserError: the files are damaged, or the data set is not suitable for a study.
    """
    files = {part: raw / name for part, name in contents.files.items()}
    reader = READERS[contents.format]
    if contents.size is not None:  # of folders only, see stages.study.data
        reader = functools.partial(folders.read, size=contents.size, how=contents.resize)
    dataset = reader(files, contents.sources, contents.classes)
    train, test = check_images("train", dataset.train), dataset.test
    if test is not None:
        test = check_images("test", test)
        check_same_shape(train.images, test.images)
        groups.check_both(train.groups, test.groups)
    classes = class_names(dataset.classes, train, *([test] if test else []))
    if test is None:
        check_classes(classes, "train", train.labels)
        train, test = draw_test(train, classes, contents.test_fraction or TEST_FRACTION, contents.test_seed)
    elif contents.test_fraction is not None:
        raise UserError("data.test_fraction draws a test set, but the data have one: remove it")
    for name, data in (("train", train), ("test", test)):
        check_classes(classes, name, data.labels)
    return train, test, classes


def split(dev_fraction: float, seeds: int) -> None:
    """Write data/train.npz, data/test.npz, data/dev.npz, the validation splits of seeds 0 … `seeds` - 1, and data.json.

    Raises:
        UserError: the data set is not suitable for a study, or it leaks test images into the training images.
    """
    contents = read_contents()
    train, test, classes = read_dataset(contents, paths.RAW)
    summary = duplicates.summarize(train, test, classes)
    if contents.refuse_duplicates:
        duplicates.refuse(summary)
    codes = None if train.groups is None else groups.number_groups(train.groups)
    validation = validation_bits(len(train.labels), dev_fraction, seeds, codes)
    labels = np.uint8 if len(classes) <= 256 else np.uint16
    # Groups of training images have done their part with the validation split.
    of_test = {} if test.groups is None else {"groups": groups.number_groups(test.groups)}
    for path, data, more in ((paths.TRAIN, train, {}), (paths.TEST, test, of_test)):
        arrays = {"labels": data.labels.astype(labels, copy=False), "classes": np.array(classes), **more}
        files.write_arrays(path, compressed=False, images=data.images, **arrays)
    files.write_arrays(paths.DEV, dev=validation, images=np.array(len(train.labels), np.int64))
    write_summary(summary)
    duplicates.report(summary)
    if train.groups is not None and test.groups is not None:
        groups.report(train.groups, test.groups)
