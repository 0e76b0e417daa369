"""NumPy archives with the array names of Keras's data sets, of MedMNIST, or `images` and `labels`; and groups."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from many_seeds.errors import UserError
from stages.split.dataset import Dataset, LabeledImages
from stages.split.memory import check_memory
from stages.study.records.arrays import read_npz

Names = tuple[str, str, str]  # of the arrays with images, labels and groups

TRAIN: list[Names] = [
    ("x_train", "y_train", "groups_train"),
    ("train_images", "train_labels", "train_groups"),
    ("images", "labels", "groups"),
]
VALIDATION: list[Names] = [("x_val", "y_val", "groups_val"), ("val_images", "val_labels", "val_groups")]
TEST: list[Names] = [("x_test", "y_test", "groups_test"), ("test_images", "test_labels", "test_groups")]


def read(files: Mapping[str, Path], sources: Mapping[str, str], classes: list[str] | None) -> Dataset:
    """The images, labels and groups of one archive, or of one for training and one for testing.

    Validation images are added to the training images, since each seed draws its own validation split.

    Args:
        files: train and perhaps test → archive.
        sources: the same parts → the name of the archive in errors.
        classes: the names of the labels; None: those of the array `classes`, where there is one.

    Raises:
        UserError: an archive is damaged, needs pickle, has no such arrays, or does not fit into memory; or there are
            two test sets.
    """
    arrays = _arrays(files["train"], sources["train"])
    train = _pair(arrays, TRAIN, sources["train"])
    _check_names(arrays, sources["train"])
    if _has(arrays, VALIDATION):
        train = _joined(train, _pair(arrays, VALIDATION, sources["train"]), sources["train"])
    test = _pair(arrays, TEST, sources["train"]) if _has(arrays, TEST) else None
    if "test" in files:
        if test is not None:
            raise UserError(f"{sources['train']} contains a test set: remove data.test, or those arrays")
        others = _arrays(files["test"], sources["test"])
        test = _pair(others, [*TEST, TRAIN[-1]], sources["test"])
        _check_names(others, sources["test"])
        if (named := _names(others, sources["test"])) and named != (classes or _names(arrays, sources["train"])):
            raise UserError(
                f"{sources['test']}: classes should be those of the training images, in their order, received "
                f"{', '.join(named)}"
            )
    return Dataset(train, test, classes or _names(arrays, sources["train"]))


def _arrays(path: Path, source: str) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise UserError(f"{source} is not an .npz archive: write it with numpy.savez")
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            check_memory(size, f"{source}: its arrays", "store fewer or smaller images")
            file.seek(0)
            return read_npz(file)
    except UserError:
        raise
    # NumPy, zip and zlib each have errors of their own for a damaged file.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{source} contains Python objects, which are not read for safety: store arrays of numbers"
            ) from error
        raise UserError(f"{source} is damaged: {error}") from error


def _check_names(arrays: Mapping[str, np.ndarray], source: str) -> None:
    every = [*TRAIN, *VALIDATION, *TEST]
    known = {"classes", *(name for names in every for name in names)}
    if unknown := [name for name in arrays if name not in known]:
        raise UserError(
            f"{source} contains {', '.join(unknown)}, which is not a known array: remove it, or rename it to one of "
            f"{', '.join(sorted(known))}"
        )
    for images, _, groups in every:
        if groups in arrays and images not in arrays:
            here = [f"{other} for {name}" for name, _, other in every if name in arrays]
            raise UserError(
                f"{source} contains {groups}, the groups of {images}, which it does not contain: rename it "
                f"({', '.join(here)}), or remove it"
            )


def _has(arrays: Mapping[str, np.ndarray], names: list[Names]) -> bool:
    return any(name in arrays for images, labels, _ in names for name in (images, labels))


def _pair(arrays: Mapping[str, np.ndarray], names: list[Names], source: str) -> LabeledImages:
    found = [one for one in names if one[0] in arrays and one[1] in arrays]
    if len(found) != 1:
        wanted = ", or ".join(f"{images} and {labels}" for images, labels, _ in names)
        raise UserError(f"{source} should contain {wanted}; it contains {', '.join(arrays) or 'nothing'}")
    images, labels, groups = (arrays.get(name) for name in found[0])
    assert images is not None
    assert labels is not None
    of_groups = None if groups is None else _without_last_axis(groups, 2)
    return LabeledImages(_without_last_axis(images, 4), _without_last_axis(labels, 2), of_groups)


def _without_last_axis(array: np.ndarray, axes: int) -> np.ndarray:
    """The array without its last axis, if it has so many axes and the last one has length 1."""
    return array[..., 0] if array.ndim == axes and array.shape[-1] == 1 else array


def _joined(train: LabeledImages, validation: LabeledImages, source: str) -> LabeledImages:
    """The training images, followed by the validation images.

    Raises:
        UserError: their arrays have other shapes or types, or only one of them has groups.
    """
    _check_joinable(train, validation, source)
    images, labels = (np.concatenate(pair) for pair in zip(_values(train), _values(validation), strict=True))
    if train.groups is None or validation.groups is None:
        if train.groups is not validation.groups:
            raise UserError(
                f"{source}: training and validation images should both have groups or both have none: add the groups "
                f"of the {'training' if train.groups is None else 'validation'} images; an image on its own is a group "
                "of one"
            )
        return LabeledImages(images, labels)
    return LabeledImages(images, labels, np.concatenate([train.groups, validation.groups]))


def _values(data: LabeledImages) -> tuple[np.ndarray, np.ndarray]:
    return data.images, data.labels


def _check_joinable(train: LabeledImages, validation: LabeledImages, source: str) -> None:
    for a, b in zip(_values(train), _values(validation), strict=True):
        if a.dtype != b.dtype or a.shape[1:] != b.shape[1:]:
            raise UserError(
                f"{source}: training and validation arrays should have the same shape and type, received {a.dtype} "
                f"{list(a.shape)} and {b.dtype} {list(b.shape)}"
            )


def _names(arrays: Mapping[str, np.ndarray], source: str) -> list[str] | None:
    if "classes" not in arrays:
        return None
    classes = arrays["classes"]
    if classes.dtype.kind != "U" or classes.ndim != 1 or len(set(classes.tolist())) < len(classes):
        raise UserError(f"{source}: classes should be distinct names, as text [classes], received {classes!r}")
    return [str(name) for name in classes]
