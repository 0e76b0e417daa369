import gzip
from pathlib import Path

import numpy as np
import pytest

from stages.errors import StudyError
from stages.split.idx import read_idx

# Two images of 2x3 pixels, by hand: magic number, three lengths, twelve values.
IMAGES = bytes([0, 0, 8, 3]) + bytes([0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(12))
LABELS = bytes([0, 0, 8, 1]) + bytes([0, 0, 0, 4]) + bytes([7, 2, 1, 0])


def write(path: Path, plain: bytes) -> Path:
    path.write_bytes(gzip.compress(plain))
    return path


def test_images_have_the_shape_of_the_header_and_go_row_by_row(tmp_path: Path) -> None:
    images = read_idx(write(tmp_path / "images.gz", IMAGES), axes=3)
    np.testing.assert_array_equal(images, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), strict=True)


def test_labels_have_one_axis(tmp_path: Path) -> None:
    labels = read_idx(write(tmp_path / "labels.gz", LABELS), axes=1)
    np.testing.assert_array_equal(labels, np.array([7, 2, 1, 0], np.uint8), strict=True)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (LABELS, "should begin as an IDX file of 3 axes of bytes, found 00 00 08 01"),
        (bytes([0, 0, 13, 3]) + IMAGES[4:], "should begin as an IDX file"),
        (IMAGES[:-1], r"should hold \(2, 2, 3\) values, found 11"),
        (IMAGES + b"\0", r"should hold \(2, 2, 3\) values, found 13"),
        (IMAGES[:2], "should begin as an IDX file"),
        (IMAGES[:10], ""),
        (IMAGES[:8], ""),
        (b"", "should begin as an IDX file"),
    ],
)
def test_a_file_that_is_not_such_an_array_is_refused_by_its_name(plain: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"images\.gz {said}"):
        read_idx(write(tmp_path / "images.gz", plain), axes=3)


@pytest.mark.parametrize("damage", ["truncated", "no gzip", "flipped", "missing"])
def test_a_damaged_file_is_refused_by_its_name(damage: str, tmp_path: Path) -> None:
    path = write(tmp_path / "images.gz", IMAGES)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {
            "truncated": content[:-9],
            "no gzip": IMAGES,
            "flipped": content[:14] + bytes([content[14] ^ 0xFF]) + content[15:],
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(StudyError, match=r"images\.gz can't be read"):
        read_idx(path, axes=3)
