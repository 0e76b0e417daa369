import gzip
from pathlib import Path

import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.split.idx import read_idx

# Two images of 2x3 pixels, by hand: magic number, three lengths, twelve values.
IMAGES = bytes([0, 0, 8, 3]) + bytes([0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(12))
LABELS = bytes([0, 0, 8, 1]) + bytes([0, 0, 0, 4]) + bytes([7, 2, 1, 0])


def write(path: Path, plain: bytes) -> Path:
    path.write_bytes(gzip.compress(plain))
    return path


def test_images_have_the_shape_of_the_header_and_go_row_by_row(tmp_path: Path) -> None:
    images = read_idx(write(tmp_path / "images.gz", IMAGES), (3, 4))
    np.testing.assert_array_equal(images, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), strict=True)


def test_labels_have_one_axis(tmp_path: Path) -> None:
    labels = read_idx(write(tmp_path / "labels.gz", LABELS), (1,))
    np.testing.assert_array_equal(labels, np.array([7, 2, 1, 0], np.uint8), strict=True)


def test_a_file_may_be_plain(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(IMAGES)
    assert read_idx(tmp_path / "images", (3,)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (LABELS, "should begin with the header of an IDX file with 3 or 4 axes, found 00 00 08 01"),
        (bytes([0, 0, 13, 3]) + IMAGES[4:], "should contain uint8 values, found float32"),
        (IMAGES[:-1], r"should contain \(2, 2, 3\) values, found 11"),
        (IMAGES + b"\0", r"should contain \(2, 2, 3\) values, found more"),
        (IMAGES[:2], "should begin with the header of an IDX file"),
        (IMAGES[:10], "should begin with the header of an IDX file"),
        (b"", "should begin with the header of an IDX file"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_that_is_not_such_an_array_is_refused_by_its_name(
    plain: bytes, said: str, compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(plain) if compressed else plain)
    with pytest.raises(UserError, match=rf"images {said}"):
        read_idx(path, (3, 4))


def test_an_error_names_where_the_file_came_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^own/a\.gz should begin"):
        read_idx(write(tmp_path / "train_images", LABELS), (3,), "own/a.gz")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_file_is_refused_by_its_name(damage: str, tmp_path: Path) -> None:
    path = write(tmp_path / "images.gz", IMAGES)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {"truncated": content[:-9], "flipped": content[:14] + bytes([content[14] ^ 0xFF]) + content[15:]}
        path.write_bytes(damaged[damage])
    with pytest.raises(UserError, match=r"images\.gz can't be read"):
        read_idx(path, (3,))
