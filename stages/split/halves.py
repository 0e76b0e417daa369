"""What the readers of every format hand on: images with labels, and whether they can be a study's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from many_seeds.errors import UserError
from stages.study.data import MOST_CLASSES

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Labelled:
    """Images [n, height, width] or [n, height, width, 3], and a label [n] each."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Halves:
    """The training and the test images, if there are any, and the names of the labels, if they are said."""

    train: Labelled
    test: Labelled | None
    classes: Sequence[str] | None


def check_labelled(half: str, data: Labelled) -> None:
    """See that the images are pixels and the labels numbers, one for each image.

    Raises:
        UserError: they are not; the message begins with `half`, "train" or "test".
    """
    images, labels = data.images, data.labels
    if images.dtype != np.uint8:
        raise UserError(
            f"{half}: pixels should be uint8 from 0 to 255, received {images.dtype}: scale them to that and store them "
            "with .astype(np.uint8)"
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise UserError(
            f"{half}: images should be [n, height, width], or [n, height, width, 3] in colour, received "
            f"{list(images.shape)}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise UserError(
            f"{half}: labels should be whole numbers [n], one for each image, received {labels.dtype} "
            f"{list(labels.shape)}"
        )
    if len(images) != len(labels):
        raise UserError(f"{half}: {len(images):,} images, but {len(labels):,} labels")


def class_names(named: Sequence[str] | None, *halves: Labelled) -> list[str]:
    """The names of the labels 0, 1, …: `named`, or their numbers up to the highest that occurs.

    Raises:
        UserError: a label is negative or has no name, or there is one class only, or too many.
    """
    highest = max(int(half.labels.max()) for half in halves)
    lowest = min(int(half.labels.min()) for half in halves)
    most = len(named) if named else MOST_CLASSES
    if lowest < 0 or highest >= most:
        wrong = lowest if lowest < 0 else highest
        reason = f"there are {most} names of classes" if named else "they count the classes"
        raise UserError(f"labels should be from 0 to {most - 1} ({reason}), received {wrong}")
    if highest < 1 and not (named and len(named) > 1):
        raise UserError("there is one class only: a study needs two at least")
    return list(named) if named else [str(label) for label in range(highest + 1)]


def check_classes(classes: Sequence[str], half: str, labels: np.ndarray) -> None:
    """See that every class has an image in this half.

    Raises:
        UserError: one has none.
    """
    counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
    if absent := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        more = f" (and {len(absent) - 3} more)" if len(absent) > 3 else ""
        raise UserError(
            f"{half}: there should be images of every class, but there is none of "
            f"{', '.join(map(repr, absent[:3]))}{more}"
        )


def check_same_shape(train: np.ndarray, test: np.ndarray) -> None:
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"training and test images should be of one shape, received {list(train.shape[1:])} and "
            f"{list(test.shape[1:])}"
        )


def draw_test(data: Labelled, classes: Sequence[str], fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and test images, drawn from `data` class by class, each in the order in which they came.

    Raises:
        UserError: a class has too few images for both halves.
    """
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
    drawn = [Labelled(data.images[indices], data.labels[indices]) for indices in (np.sort(train), np.sort(test))]
    return drawn[0], drawn[1]
