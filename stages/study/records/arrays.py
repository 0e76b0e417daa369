"""Arrays in .npz files whose bytes are the same with every version of Python, NumPy and zlib, on every platform.

DVC compares files by their bytes. The bytes of `numpy.savez` depend on the versions of Python, which writes the headers
of the zip archive, and of zlib, which compresses it.
"""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

# The earliest time that a zip archive can store.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write arrays as an .npz file that `numpy.load` reads without pickle.

    Args:
        path: the file.
        arrays: name → array of numbers or text, written in this order.
        compressed: whether to compress with bzip2, whose output has not changed since version 1.0 of 2000.

    Raises:
        TypeError: an array has Python objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            header, values = _npy(array)
            entry = zip_entry(f"{name}.npy", len(header) + values.nbytes, compressed=compressed)
            with archive.open(entry, "w") as member:
                member.write(header)
                member.write(values)


def zip_entry(name: str, size: int, *, compressed: bool = False) -> zipfile.ZipInfo:
    """The header of a file in a zip archive, independent of time, machine and user.

    Args:
        name: its path in the archive.
        size: its size in bytes.
        compressed: whether to compress it with bzip2.
    """
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    entry.compress_type = zipfile.ZIP_BZIP2 if compressed else zipfile.ZIP_STORED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry


def read_npz(file: IO[bytes], names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays from an open .npz file, without pickle.

    Args:
        file: the file.
        names: the arrays to read; None for all.

    Raises:
        KeyError: an array is missing.
        ValueError: an array needs pickle.
    """
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive.files}


def _npy(array: np.ndarray) -> tuple[bytes, memoryview]:
    """The header and the values of an array in NumPy's format 1.0, little-endian and in C order.

    The padding of the header that `numpy.save` writes depends on its version. The format is documented at
    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
    """
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if plain.dtype.hasobject:
        raise TypeError("expected an array of numbers or text, received an array of Python objects")
    text = f"{{'descr': {plain.dtype.str!r}, 'fortran_order': False, 'shape': {plain.shape!r}, }}"
    padding = -(10 + len(text) + 1) % 64
    length = len(text) + padding + 1
    header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.encode("latin-1") + b" " * padding + b"\n"
    return header, memoryview(plain.tobytes())
