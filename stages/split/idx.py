"""The IDX format of MNIST: http://yann.lecun.com/exdb/mnist, section "File formats"."""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np

from many_seeds.errors import UserError
from stages.split.halves import Halves, Labelled

GZIP = b"\x1f\x8b"
BYTES = 8  # the code of the type of values
TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def read(files: Mapping[str, Path], sources: Mapping[str, str], classes: list[str] | None) -> Halves:
    """The images and labels of two or four IDX files.

    Args:
        files: train_images, train_labels and perhaps test_images, test_labels → file, plain or gzip.
        sources: the same parts → where the file came from, for errors.
        classes: the names of the labels, handed on.

    Raises:
        UserError: a file is damaged or is not such an array.
    """

    def half(name: str) -> Labelled:
        images = read_idx(files[f"{name}_images"], (3, 4), sources[f"{name}_images"])
        return Labelled(images, read_idx(files[f"{name}_labels"], (1,), sources[f"{name}_labels"]))

    return Halves(half("train"), half("test") if "test_images" in files else None, classes)


def read_idx(path: Path, axes: tuple[int, ...], source: str | None = None) -> np.ndarray:
    """The uint8 array of an IDX file, plain or gzip, with the shape that its header gives.

    Args:
        path: the file.
        axes: the numbers of axes that it may have: 3 for grey images [n, rows, columns], 1 for labels [n].
        source: what to call the file in errors.

    Raises:
        UserError: the file is damaged or is not such an array.
    """
    name = source or str(path)
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP
        with cast(IO[bytes], gzip.open(path) if compressed else path.open("rb")) as file:
            shape = _shape(file, axes, name)
            # One byte more than it should have, to see whether there is one.
            values = np.frombuffer(file.read(math.prod(shape) + 1), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} can't be read ({error}): delete it and run `dvc repro`") from error
    if len(values) != math.prod(shape):
        raise UserError(
            f"{name} should hold {shape} values, found {'more' if len(values) > math.prod(shape) else len(values)}"
        )
    return values.reshape(shape)


def _shape(file: IO[bytes], axes: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape that the header gives; `file` is left at the first value."""
    start = file.read(4)
    lengths = file.read(4 * start[3]) if len(start) == 4 and start[3] in axes else b""
    if start[:2] != b"\0\0" or not lengths or len(lengths) < 4 * start[3]:
        wanted = " or ".join(map(str, axes))
        raise UserError(f"{name} should begin as an IDX file of {wanted} axes, found {(start + lengths).hex(' ')}")
    if start[2] != BYTES:
        raise UserError(f"{name} should hold uint8 values, found {TYPES.get(start[2], 'an unknown type')}")
    return tuple(int.from_bytes(lengths[at : at + 4], "big") for at in range(0, len(lengths), 4))
