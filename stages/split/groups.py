"""Groups of images, such as those of one writer, patient or camera: checks, and draws that keep groups together."""

import sys

import numpy as np
from sklearn.utils import check_random_state

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.statistics.new_images import LEAST_IMAGES


def check_groups(split: str, groups: np.ndarray, images: int) -> np.ndarray:
    """The groups of the images of a split as text [images].

    Args:
        split: "train" or "test", for errors.
        groups: the group of each image, as they were read.
        images: the number of images.

    Raises:
        UserError: they are not whole numbers or text, one for each image, or one is empty.
    """
    if groups.dtype.kind not in "iuU" or groups.ndim != 1:
        raise UserError(
            f"{split}: groups should be whole numbers or text [n], one for each image; received {groups.dtype} "
            f"{list(groups.shape)}: number the groups, or name them"
        )
    if len(groups) != images:
        raise UserError(
            f"{split}: {images:,} images, but groups of {len(groups):,}: give each image its group; an image on its "
            "own is a group of one"
        )
    names = np.char.strip(groups.astype(str))
    if empty := np.flatnonzero(names == "").tolist():
        raise UserError(
            f"{split}: each image should have the name of its group, received an empty one for "
            f"{counted(len(empty), 'image')} (indices {listed(empty)}): an image on its own is a group of one"
        )
    return names


def check_both(train: np.ndarray | None, test: np.ndarray | None) -> None:
    """Check that either both splits have groups or none has.

    Raises:
        UserError: only one has.
    """
    if (train is None) != (test is None):
        having, lacking = ("test", "training") if train is None else ("training", "test")
        raise UserError(
            f"training and test images should both have groups or both have none; the {having} images have groups, "
            f"the {lacking} images have none: add theirs; an image on its own is a group of one"
        )


def number_groups(groups: np.ndarray) -> np.ndarray:
    """The groups [images] as numbers from 0, int32 [images], in the order of their first images."""
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[codes]


def draw_groups(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw whole groups in random order until they have a fraction of the images; one group is always left.

    Args:
        groups: [images].
        fraction: of the images.
        seed: of the draw.

    Returns:
        The sorted indices, int64 [n], of the images of the drawn groups.

    Raises:
        UserError: there are fewer than two groups.
    """
    codes = number_groups(groups)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise UserError(
            "validation images are drawn in whole groups, which takes at least 2 groups of training images, received "
            f"{len(sizes)}: add images of other groups, or remove the groups"
        )
    order = check_random_state(seed).permutation(len(sizes))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), _wanted(fraction, len(codes)))) + 1
    return np.flatnonzero(np.isin(codes, order[: min(enough, len(sizes) - 1)]))


def draw_stratified_groups(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw whole groups until they have a fraction of the images, and about that fraction of each class.

    Groups are visited in random order, and drawn if they bring the fractions of the classes closer to `fraction`. While
    a class or images are missing then, the group that brings them least away from it is drawn.

    Args:
        labels: int [images].
        groups: [images].
        fraction: of the images.
        seed: of the draw.

    Returns:
        The sorted indices, int64 [n], of the images of the drawn groups. A class that is in one group only is not
        drawn; of any other one, some images are left.
    """
    codes = number_groups(groups)
    shares, sizes = _class_shares(labels, codes), np.bincount(codes)
    order = check_random_state(seed).permutation(len(sizes))
    drawn, reached = np.zeros(len(sizes), bool), np.zeros(shares.shape[1])

    def distance(group: int) -> float:
        after = reached + shares[group]
        return np.inf if (after > 1 - 1e-9).any() else float(((after - fraction) ** 2).sum())

    def draw(candidates: np.ndarray, closer_than: float = np.inf) -> bool:
        best = min(candidates, key=distance, default=None)
        if best is None or distance(best) >= closer_than:
            return False
        drawn[best] = True
        reached[:] += shares[best]
        return True

    # A group that brings the classes no closer does not do so later either, since `reached` only grows.
    for group in order:
        draw(np.array([group]), float(((reached - fraction) ** 2).sum()))
    while (missing := reached == 0).any() and draw(order[shares[order][:, missing].any(axis=1)]):
        pass
    while sizes[drawn].sum() < _wanted(fraction, len(codes)) and draw(order[~drawn[order]]):
        pass
    return np.flatnonzero(drawn[codes])


def _wanted(fraction: float, images: int) -> int:
    return int(np.ceil(fraction * images))


def _class_shares(labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The share of the images of each class that each group has, float64 [groups, classes]."""
    classes = np.unique(labels, return_inverse=True)[1]
    counts = np.zeros((codes.max() + 1, classes.max() + 1))
    np.add.at(counts, (codes, classes), 1)
    return counts / counts.sum(axis=0)


def report(train: np.ndarray, test: np.ndarray) -> None:
    """Print how many groups the training and the test images have, and warn of groups that both have.

    Args:
        train: the groups of the training images, text [images].
        test: those of the test images.
    """
    of_train, of_test = np.unique(train), np.unique(test)
    print(f"groups: {len(of_train):,} of training images, {len(of_test):,} of test images", flush=True)
    if len(of_test) < LEAST_IMAGES:
        print(
            f"with fewer than {LEAST_IMAGES} groups of test images, comparisons have no interval for new images",
            flush=True,
        )
    common = np.intersect1d(of_train, of_test)
    if len(common):
        images = [int(np.isin(of, common).sum()) for of in (train, test)]
        print(
            f"warning: {counted(len(common), 'group')} of the test images, {listed(common.tolist())}, "
            f"{'is' if len(common) == 1 else 'are'} among the training images too: {images[1]:,} of the {len(test):,} "
            f"test images and {images[0]:,} of the {len(train):,} training images. Scores on them say little about "
            "images of new groups",
            file=sys.stderr,
            flush=True,
        )
