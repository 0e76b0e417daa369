import hashlib
from pathlib import Path

import numpy as np
import pytest

from stages.study.records.arrays import read_npz, write_npz

ARRAYS: dict[str, np.ndarray] = {
    "images": np.arange(7 * 5 * 5, dtype=np.uint8).reshape(7, 5, 5),
    "labels": np.arange(7, dtype=np.uint16),
    "classes": np.array(["a", "Ankle boot", "ä"]),
    "n": np.array(60_000, np.int64),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_as_they_were_written(compressed: bool, tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", ARRAYS, compressed=compressed)
    with (tmp_path / "a.npz").open("rb") as file:
        found = read_npz(file)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
    ("compressed", "sha256"),
    [
        (False, "e1153800ce544a9a565567941c137dc46c81caf3a70f87f8de0498de72053dc0"),
        (True, "4da207156acd7cf478f352fdc662a1825a8855e676b01e3267fe0a031bcad1c7"),
    ],
)
def test_the_bytes_of_a_file_do_not_depend_on_python_or_the_platform(
    compressed: bool, sha256: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    write_npz(tmp_path / "a.npz", ARRAYS, compressed=compressed)
    assert hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest() == sha256


def test_the_memory_layout_of_an_array_does_not_change_the_bytes(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    same = [array, np.asfortranarray(array), array.astype(">i4"), np.repeat(array, 2, axis=0)[::2]]
    for number, variant in enumerate(same):
        write_npz(tmp_path / f"{number}.npz", {"a": variant})
    assert len({(tmp_path / f"{number}.npz").read_bytes() for number in range(4)}) == 1


def test_python_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="numbers or text"):
        write_npz(tmp_path / "a.npz", {"a": np.array([{}])})
