from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stages.fetch.datasets import DATASETS
from stages.fetch.digits import digits_files
from stages.fetch.stage import fetch
from stages.split.stage import READERS, split
from stages.study import files, paths
from stages.study.data import KNOWN, Data, read_contents
from stages.study.records.splits import read_images
from tests import ROOT

LOCAL = {"mnist": ROOT.parent / "shared" / "mnist", "fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
DOWNLOADED = [name for name, dataset in DATASETS.items() if dataset.generate is None]


def test_every_built_in_data_set_has_files_and_a_reader() -> None:
    assert set(KNOWN) == DATASETS.keys()
    assert {dataset.format for dataset in DATASETS.values()} <= READERS.keys()


@pytest.mark.parametrize("name", DOWNLOADED)
def test_every_file_of_a_data_set_has_a_digest_and_an_https_mirror(name: str) -> None:
    dataset = DATASETS[name]
    digests = [file.sha256 for file in dataset.files.values()]
    assert all(digests)
    assert len(set(digests)) == len(digests)
    assert not [mirror for mirror in dataset.mirrors if mirror.startswith("http://")]
    assert [mirror for mirror in dataset.mirrors if mirror.startswith("https://")]


@pytest.mark.parametrize("name", LOCAL)
def test_the_checksums_are_those_of_the_real_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not LOCAL[name].is_dir():
        pytest.skip(f"{name} is not at {LOCAL[name]}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_MIRROR", str(LOCAL[name]))
    fetch(Data(name=name))
    split(0.2, 1)
    images, labels = read_images(paths.TRAIN)
    assert (images.shape, np.bincount(labels).size) == ((60_000, 28, 28), 10)
    # The digest of the training data in the keys of the committed runs.
    if name == "mnist":
        known = "465b4c294b957b850120e6abb5b8a2e81d06429f0e2fd488ddf7a4e046b4c37d"
        assert files.digest(images, labels) == known


def test_the_digits_are_those_of_scikit_learn_and_need_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "missing"))
    fetch(Data(name="digits"))
    assert read_contents().classes == list("0123456789")
    split(0.2, 1)
    train, test = read_images(paths.TRAIN), read_images(paths.TEST)
    assert [train[0].shape, test[0].shape] == [(1437, 28, 28), (360, 28, 28)]
    np.testing.assert_array_equal(np.concatenate([train[1], test[1]]), load_digits().target)


def test_a_digit_is_scaled_up_to_the_grey_values_of_mnist() -> None:
    content = digits_files()["train_images"][16:]
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
