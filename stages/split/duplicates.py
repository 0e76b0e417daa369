"""Images with the same pixels: test images among the training images, and images of two classes."""

import hashlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.output.messages import counted
from stages.split.dataset import LabeledImages
from stages.study.records.data_summary import MOST_NAMED, Copies, Copy, DataSummary

MOST_SHOWN = 3  # copies in a message
MOST_ROWS = 20  # classes that are printed one by one
DIGEST = 16  # bytes: two images that differ share a digest with a probability of 2^-128


def summarize(train: LabeledImages, test: LabeledImages, classes: Sequence[str]) -> DataSummary:
    """Count the images of each class, and find images with the same pixels.

    Args:
        train: the training images.
        test: the test images, of the same shape.
        classes: the names of the labels.
    """
    digests = {"train": _digests(train.images), "test": _digests(test.images)}
    return DataSummary(
        train=_counts(train, classes),
        test=_counts(test, classes),
        between=_copies(test, digests["test"], train, digests["train"], classes),
        within_train=_copies(train, digests["train"], train, digests["train"], classes, only_other_class=True),
        within_test=_copies(test, digests["test"], test, digests["test"], classes, only_other_class=True),
    )


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest() for image in images]


def _counts(data: LabeledImages, classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(data.labels.astype(np.int64), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _copies(
    data: LabeledImages,
    digests: Sequence[bytes],
    others: LabeledImages,
    other_digests: Sequence[bytes],
    classes: Sequence[str],
    *,
    only_other_class: bool = False,
) -> Copies:
    """The images of `data` with the pixels of an image of `others`; if asked, only with those of another class."""
    # digest → class → its first image with these pixels
    known: dict[bytes, dict[int, int]] = {}
    for index, (digest, label) in enumerate(zip(other_digests, others.labels.tolist(), strict=True)):
        known.setdefault(digest, {}).setdefault(label, index)
    of_other_class, of_same_class = [], []
    for index, (digest, label) in enumerate(zip(digests, data.labels.tolist(), strict=True)):
        found = known.get(digest, {})
        if conflicting := [other for other_label, other in found.items() if other_label != label]:
            of_other_class.append((index, conflicting[0]))
        elif found and not only_other_class:
            of_same_class.append((index, found[label]))
    pairs = [*of_other_class, *of_same_class]
    named = [
        Copy(
            image=data.name(index),
            label=classes[int(data.labels[index])],
            other=others.name(other),
            other_label=classes[int(others.labels[other])],
        )
        for index, other in pairs[:MOST_NAMED]
    ]
    return Copies(count=len(pairs), other_class=len(of_other_class), named=named)


def refuse(summary: DataSummary) -> None:
    """Refuse test images of which all are training images, or of which one is a training image of another class.

    Raises:
        UserError: there are such images.
    """
    between, problems = summary.between, []
    if between.other_class:
        problems.append(
            f"{counted(between.other_class, 'test image')} {'has' if between.other_class == 1 else 'have'} the pixels "
            f"of a training image of another class:\n{_shown(between.named[: between.other_class])}"
        )
    if between.count == sum(summary.test.values()):
        same = between.named[between.other_class :]
        problems.append(
            f"all {between.count:,} test images have the pixels of a training image"
            + (f", such as\n{_shown(same)}" if same else "")
        )
    if problems:
        raise UserError(
            "\n".join(problems) + "\nFix or remove these files; or set `data.allow_duplicates: true`, and the report "
            "lists them"
        )


def _shown(copies: Sequence[Copy]) -> str:
    return "\n".join(
        f"  {copy.image} ({copy.label}) is {copy.other} ({copy.other_label})" for copy in copies[:MOST_SHOWN]
    )


def report(summary: DataSummary) -> None:
    """Print the number of images of each class, and a warning of each kind of copies with the first ones."""
    if len(summary.train) <= MOST_ROWS:
        rows = [[name, f"{summary.train[name]:,}", f"{summary.test[name]:,}"] for name in summary.train]
        print(text.aligned(["class", "training images", "test images"], rows))
    else:
        spans = [f"{min(counts):,} to {max(counts):,}" for counts in map(_values, (summary.train, summary.test))]
        print(f"{len(summary.train):,} classes with {spans[0]} training images and {spans[1]} test images each")
    for sentence, copies in summary.warnings():
        print(f"{text.filled(f'warning: {sentence}')}\n{_shown(copies.named)}", file=sys.stderr)


def _values(counts: Mapping[str, int]) -> list[int]:
    return list(counts.values())
