"""The IDX format of MNIST: http://yann.lecun.com/exdb/mnist, section "File formats"."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from stages.errors import StudyError


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array of a gzip IDX file, with the shape that its header gives.

    Args:
        path: the file.
        axes: the number of axes it should have: 3 for images [n, rows, columns], 1 for labels [n].

    Raises:
        StudyError: the file is damaged or is not such an array.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path} can't be read ({error}): delete it and run `dvc repro`") from error
    start = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < start:
        raise StudyError(f"{path} should begin as an IDX file of {axes} axes of bytes, found {content[:4].hex(' ')}")
    shape = np.frombuffer(content[4:start], ">u4")
    values = np.frombuffer(content, np.uint8, offset=start)
    if len(values) != np.prod(shape):
        raise StudyError(f"{path} should hold {tuple(map(int, shape))} values, found {len(values):,}")
    return values.reshape(shape)
