"""The IDX format of MNIST: http://yann.lecun.com/exdb/mnist, section "File formats"."""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np

from many_seeds.errors import UserError
from stages.split.dataset import Dataset, LabeledImages

GZIP = b"\x1f\x8b"
BYTES = 8  # the code of the type of values
TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def read(files: Mapping[str, Path], sources: Mapping[str, str], classes: list[str] | None) -> Dataset:
    """The images and labels of two or four IDX files.

    Args:
        files: train_images, train_labels and perhaps test_images, test_labels → file, plain or gzip.
        sources: the same parts → the name of the file in errors.
        classes: the names of the labels; returned as they are.

    Raises:
        UserError: a file is damaged or is not such an array.
    """

    def split(name: str) -> LabeledImages:
        images = read_idx(files[f"{name}_images"], (3, 4), sources[f"{name}_images"])
        return LabeledImages(images, read_idx(files[f"{name}_labels"], (1,), sources[f"{name}_labels"]))

    return Dataset(split("train"), split("test") if "test_images" in files else None, classes)


def read_idx(path: Path, axes: tuple[int, ...], source: str | None = None) -> np.ndarray:
    """The uint8 array of an IDX file, plain or gzip, with the shape that its header gives.

    Args:
        path: the file.
        axes: the numbers of axes that it may have: 3 for grey images [n, rows, columns], 1 for labels [n].
        source: the name of the file in errors.

    Raises:
        UserError: the file is damaged or is not such an array.
    """
    name = source or str(path)
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP
        with cast(IO[bytes], gzip.open(path) if compressed else path.open("rb")) as file:
            shape = _shape(file, axes, name)
            # Read one byte more than expected, to detect a file that is too long.
            values = np.frombuffer(file.read(math.prod(shape) + 1), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} can't be read ({error}): delete it and run `dvc repro`") from error
    if len(values) != math.prod(shape):
        raise UserError(
            f"{name} should contain {shape} values, found {'more' if len(values) > math.prod(shape) else len(values)}"
        )
    return values.reshape(shape)


def _shape(file: IO[bytes], axes: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape that the header gives; `file` is left at the first value."""
    start = file.read(4)
    lengths = file.read(4 * start[3]) if len(start) == 4 and start[3] in axes else b""
    if start[:2] != b"\0\0" or not lengths or len(lengths) < 4 * start[3]:
        wanted = " or ".join(map(str, axes))
        raise UserError(
            f"{name} should begin with the header of an IDX file with {wanted} axes, found {(start + lengths).hex(' ')}"
        )
    if start[2] != BYTES:
        raise UserError(f"{name} should contain uint8 values, found {TYPES.get(start[2], 'an unknown type')}")
    return tuple(int.from_bytes(lengths[at : at + 4], "big") for at in range(0, len(lengths), 4))
