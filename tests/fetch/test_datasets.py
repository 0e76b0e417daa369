import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stages.fetch import __main__ as stage
from stages.fetch.datasets import DOWNLOADS, SIZES
from stages.fetch.digits import digits_files
from stages.fetch.download import check
from stages.params import DatasetName
from stages.records import RAW, RAW_FILES
from stages.split.idx import read_idx
from tests.conftest import ROOT

LOCAL = {"mnist": ROOT.parent / "shared" / "mnist", "fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}


def test_every_data_set_that_params_may_name_can_be_fetched() -> None:
    assert set(DatasetName.__args__) == {*DOWNLOADS, "digits"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DOWNLOADS)
def test_every_file_of_a_data_set_has_a_checksum_and_some_mirror_is_an_encrypted_address(name: str) -> None:
    dataset = DOWNLOADS[name]
    assert dataset.sha256.keys() == RAW_FILES.keys()
    assert len(set(dataset.sha256.values())) == 4
    assert not [mirror for mirror in dataset.mirrors if mirror.startswith("http://")]
    assert [mirror for mirror in dataset.mirrors if mirror.startswith("https://")]


@pytest.mark.parametrize("name", DOWNLOADS)
def test_the_checksums_are_those_of_the_real_files(name: str) -> None:
    if not LOCAL[name].is_dir():
        pytest.skip(f"{name} is not at {LOCAL[name]}")
    for part, file in RAW_FILES.items():
        check((LOCAL[name] / file).read_bytes(), size=SIZES[part], sha256=DOWNLOADS[name].sha256[part])


def test_digits_need_no_mirror_and_are_the_digits_of_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "missing"))
    stage.fetch("digits")
    shapes, labels = [], []
    for part in ("train", "test"):
        shapes.append(read_idx(RAW / RAW_FILES[f"{part}_images"], axes=3).shape)
        labels.append(read_idx(RAW / RAW_FILES[f"{part}_labels"], axes=1))
    assert shapes == [(1437, 28, 28), (360, 28, 28)]
    np.testing.assert_array_equal(np.concatenate(labels), load_digits().target)


def test_a_digit_is_scaled_up_to_the_grey_values_of_mnist() -> None:
    content = gzip.decompress(digits_files()["train_images"])[16:]
    images = np.frombuffer(content, np.uint8).reshape(-1, 28, 28)
    assert images.max() == 255
    # Averaged back over its 8x8 cells (3.5 pixels wide), an image looks like the original.
    original = load_digits().images[7] * 255 / 16
    cells = np.asarray([[images[7][int(3.5 * y + 1.75), int(3.5 * x + 1.75)] for x in range(8)] for y in range(8)])
    assert np.corrcoef(cells.ravel(), original.ravel())[0, 1] > 0.95


def test_digits_are_the_same_bytes_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = digits_files()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert digits_files() == now
