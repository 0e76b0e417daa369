"""A data set as the readers of all formats return it, and the checks of one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import train_test_split

from many_seeds.errors import UserError
from stages.split.groups import check_groups, draw_stratified_groups
from stages.study.data import MOST_CLASSES

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class LabeledImages:
    """Images with a label each.

    Attributes:
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: integers [n].
        groups: the group of each image, such as its writer, whole numbers or text [n]; None if images are independent.
        names: the name of each image in messages, text [n]; None if they are rows of an array.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    names: np.ndarray | None = None

    def name(self, index: int) -> str:
        """The name of an image, once `check_images` has named all of them."""
        assert self.names is not None
        return str(self.names[index])

    def select(self, indices: np.ndarray) -> "LabeledImages":
        """The images with these indices."""
        groups, names = (None if of is None else of[indices] for of in (self.groups, self.names))
        return LabeledImages(self.images[indices], self.labels[indices], groups, names)


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        train: the training images.
        test: the test images, or None.
        classes: the names of the labels 0, 1, …, or None.
    """

    train: LabeledImages
    test: LabeledImages | None
    classes: Sequence[str] | None


def check_images(split: str, data: LabeledImages) -> LabeledImages:
    """Check that images, labels and groups have the expected shapes and types.

    Args:
        split: "train" or "test", for errors.
        data: as a reader returns them.

    Returns:
        The same, with groups as text, and with names.

    Raises:
        UserError: they have not.
    """
    images, labels = data.images, data.labels
    if images.dtype != np.uint8:
        raise UserError(
            f"{split}: pixels should be uint8 from 0 to 255, received {images.dtype}: scale them and store them with "
            ".astype(np.uint8)"
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise UserError(
            f"{split}: images should be [n, height, width], or [n, height, width, 3] in colour, received "
            f"{list(images.shape)}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise UserError(
            f"{split}: labels should be whole numbers [n], one for each image, received {labels.dtype} "
            f"{list(labels.shape)}: {_remedy(labels)}"
        )
    if len(images) != len(labels):
        raise UserError(f"{split}: {len(images):,} images, but {len(labels):,} labels")
    if data.names is None:
        data = replace(data, names=np.array([f"{split} image {index}" for index in range(len(images))]))
    return data if data.groups is None else replace(data, groups=check_groups(split, data.groups, len(images)))


def _remedy(labels: np.ndarray) -> str:
    """How labels of another type or shape become whole numbers [n]."""
    if labels.dtype.kind in "US":
        return "store classes, labels = np.unique(labels, return_inverse=True), the first one as the array `classes`"
    if labels.ndim == 2:
        if ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
            return "they are one-hot; store labels.argmax(axis=1)"
        return "an image should have one class; store one column, or labels.argmax(axis=1) if columns are scores"
    if labels.ndim == 1 and labels.dtype.kind == "b":
        return "store labels.astype(np.uint8)"
    if labels.ndim == 1 and labels.dtype.kind == "f" and (labels == np.round(labels)).all():
        return "store labels.astype(np.int64)"
    return "number the classes from 0; a study compares classifiers, not regressions"


def class_names(named: Sequence[str] | None, *splits: LabeledImages) -> list[str]:
    """The names of the labels 0, 1, …: `named`, or else the labels as text, up to the highest one.

    Raises:
        UserError: a label is negative or has no name, or there is only one class, or there are too many.
    """
    highest = max(int(split.labels.max()) for split in splits)
    lowest = min(int(split.labels.min()) for split in splits)
    most = len(named) if named else MOST_CLASSES
    for label in (lowest, highest):
        if not 0 <= label < most:
            reason = f"there are {most} names of classes" if named else f"at most {MOST_CLASSES:,} classes"
            remedy = f": they start at {lowest}; store labels - {lowest}" if 0 < lowest <= highest - most + 1 else ""
            raise UserError(f"labels should be from 0 to {most - 1} ({reason}), received {label}{remedy}")
    names = list(named) if named else [str(label) for label in range(highest + 1)]
    if len(names) < 2:
        raise UserError("there is only one class: a study needs at least two")
    return names


def check_classes(classes: Sequence[str], split: str, labels: np.ndarray) -> None:
    """Check that every class has an image in this split.

    Raises:
        UserError: a class has no image.
    """
    counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
    if absent := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        more = f" (and {len(absent) - 3} more)" if len(absent) > 3 else ""
        lowest = int(labels.min())
        remedy = f": labels start at {lowest}; store labels - {lowest}" if len(absent) == lowest else ""
        raise UserError(
            f"{split}: there should be images of every class, but there is none of "
            f"{', '.join(map(repr, absent[:3]))}{more}{remedy}"
        )


def check_same_shape(train: np.ndarray, test: np.ndarray) -> None:
    """Check that training and test images [n, …] have the same height, width and channels."""
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"training and test images should be of one shape, received {list(train.shape[1:])} and "
            f"{list(test.shape[1:])}"
        )


def draw_test(
    data: LabeledImages, classes: Sequence[str], fraction: float, seed: int
) -> tuple[LabeledImages, LabeledImages]:
    """Draw a stratified test set from `data`; both parts keep the order of the images, and groups stay together.

    Args:
        data: all images.
        classes: the names of the classes, for errors.
        fraction: of the images that become test images.
        seed: of the draw.

    Returns:
        The training images and the test images.

    Raises:
        UserError: a class has too few images, or too few groups.
    """
    if data.groups is not None:
        test = draw_stratified_groups(data.labels, data.groups, fraction, seed)
        train = np.setdiff1d(np.arange(len(data.labels)), test)
        for part in (train, test):
            _check_drawn(classes, data, data.groups, part)
        return data.select(train), data.select(test)
    try:
        train, test = train_test_split(
            np.arange(len(data.labels)), test_size=fraction, random_state=seed, stratify=data.labels
        )
    except ValueError as error:
        counts = np.bincount(data.labels.astype(np.int64), minlength=len(classes))
        least = int(counts.argmin())
        raise UserError(
            f"no test set is given, and {fraction:g} of {len(data.labels):,} images can't be drawn as one with images "
            f"of each of the {len(classes)} classes: the rarest, {classes[least]!r}, has {counts[least]}. Add images, "
            "or change data.test_fraction"
        ) from error
    return data.select(np.sort(train)), data.select(np.sort(test))


def _check_drawn(classes: Sequence[str], data: LabeledImages, groups: np.ndarray, part: np.ndarray) -> None:
    """Check that the images with the indices `part` are of all classes."""
    found = np.bincount(data.labels[part].astype(np.int64), minlength=len(classes))
    if (found == 0).any():
        absent = int(found.argmin())
        held = len(np.unique(groups[data.labels == absent]))
        raise UserError(
            "no test set is given, and whole groups can't be drawn as one with all classes in both training and test "
            f"images: {classes[absent]!r} is in {held} of {len(np.unique(groups)):,} groups. Add groups, give a test "
            "set, or change data.test_fraction or data.test_seed"
        )
