"""Arrays in .npz files whose bytes depend on the arrays alone: on no version of Python, NumPy or zlib, and no platform.

DVC tells by its bytes whether a file has changed, so two machines must write the same ones. NumPy leaves the headers of
the zip file to Python, whose versions differ in them, and compresses with zlib, whose versions and forks differ too.
"""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

# The first moment that a zip file can name.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write arrays as an .npz file that `numpy.load` reads without pickle.

    Args:
        path: the file.
        arrays: name → array of numbers or of text, written in this order.
        compressed: with bzip2, whose output has been the same since its version 1.0 of 2000; else stored as they are.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            header, values = _npy(array)
            entry = zip_entry(f"{name}.npy", len(header) + values.nbytes, compressed=compressed)
            with archive.open(entry, "w") as member:
                member.write(header)
                member.write(values)


def zip_entry(name: str, size: int, *, compressed: bool = False) -> zipfile.ZipInfo:
    """The header of a file of `size` bytes in a zip file, without a trace of when, where and by whom it was written."""
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    entry.compress_type = zipfile.ZIP_BZIP2 if compressed else zipfile.ZIP_STORED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry


def read_npz(file: IO[bytes], names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file, or all; one that needs pickle is a ValueError, a missing one a KeyError."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive.files}


def _npy(array: np.ndarray) -> tuple[bytes, memoryview]:
    """Header and values of an array in NumPy's format 1.0, little-endian and in C order.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html; `numpy.save` leaves room in its header, how
    much depends on its version.
    """
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if plain.dtype.hasobject:
        raise TypeError("arrays of numbers or text can be written, received one of Python objects")
    text = f"{{'descr': {plain.dtype.str!r}, 'fortran_order': False, 'shape': {plain.shape!r}, }}"
    padding = -(10 + len(text) + 1) % 64
    length = len(text) + padding + 1
    header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.encode("latin-1") + b" " * padding + b"\n"
    return header, memoryview(plain.tobytes())
