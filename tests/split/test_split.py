from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from stages import files, records
from stages.errors import StudyError
from stages.fetch.digits import idx_gzip
from stages.split.__main__ import dev_indices, split


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_dev_split_of_mnist_is_that_of_scikit_learn(seed: int) -> None:
    images = np.arange(60_000)
    train, dev = train_test_split(images, test_size=0.2, random_state=seed)
    found = dev_indices(60_000, 0.2, seed)
    assert len(found) == 12_000
    np.testing.assert_array_equal(found, np.sort(dev))
    assert not set(found) & set(train)


def test_every_seed_sets_other_images_aside() -> None:
    assert not np.array_equal(dev_indices(1000, 0.2, 0), dev_indices(1000, 0.2, 1))


def test_the_stage_writes_all_images_and_the_dev_indices_of_every_seed(workspace: Path) -> None:
    images, labels = records.read_images(records.TRAIN)
    test_images, test_labels = records.read_images(records.TEST)
    assert (images.shape, labels.shape) == ((1437, 28, 28), (1437,))
    assert (test_images.shape, test_labels.shape) == ((360, 28, 28), (360,))
    assert images.dtype == labels.dtype == np.uint8
    assert sorted(file.name for file in records.DEV.iterdir()) == ["0.npy", "1.npy"]
    for seed in (0, 1):
        np.testing.assert_array_equal(np.load(records.dev_path(seed)), dev_indices(1437, 0.2, seed))


def test_more_seeds_leave_the_old_files_as_they_were(workspace: Path) -> None:
    files = [records.TRAIN, records.TEST, records.dev_path(0), records.dev_path(1)]
    before = [file.read_bytes() for file in files]
    split(0.2, [1, 5, 0])
    assert [file.read_bytes() for file in files] == before
    assert records.dev_path(5).exists()


def test_the_indices_of_a_seed_that_is_no_longer_named_are_removed(workspace: Path) -> None:
    split(0.2, [1])
    assert [file.name for file in records.DEV.iterdir()] == ["1.npy"]


def test_images_without_labels_are_refused(workspace: Path) -> None:
    files.write_bytes(records.RAW / records.RAW_FILES["test_labels"], idx_gzip(np.zeros(359, np.uint8)))
    with pytest.raises(StudyError, match="test: 360 images, but 359 labels"):
        split(0.2, [0])


def test_a_dev_split_that_leaves_nothing_to_train_on_is_refused_by_its_name(workspace: Path) -> None:
    with pytest.raises(StudyError, match="dev_fraction"):
        split(0.9999, [0])
