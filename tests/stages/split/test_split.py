from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from many_seeds.errors import UserError
from stages.fetch.digits import idx_bytes
from stages.split.stage import split, validation_bits, validation_indices
from stages.study import files, paths
from stages.study.records.splits import read_classes, read_images, read_validation


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_dev_split_of_mnist_is_that_of_scikit_learn(seed: int) -> None:
    images = np.arange(60_000)
    train, dev = train_test_split(images, test_size=0.2, random_state=seed)
    found = validation_indices(60_000, 0.2, seed)
    assert len(found) == 12_000
    np.testing.assert_array_equal(found, np.sort(dev))
    assert not set(found) & set(train)


def test_every_seed_sets_other_images_aside() -> None:
    assert not np.array_equal(validation_indices(1000, 0.2, 0), validation_indices(1000, 0.2, 1))


def test_the_stage_writes_all_images_with_the_names_of_their_classes(workspace: Path) -> None:
    images, labels = read_images(paths.TRAIN)
    test_images, test_labels = read_images(paths.TEST)
    assert (images.shape, labels.shape) == ((1437, 28, 28), (1437,))
    assert (test_images.shape, test_labels.shape) == ((360, 28, 28), (360,))
    assert images.dtype == labels.dtype == np.uint8
    assert read_classes(paths.TRAIN) == read_classes(paths.TEST) == list("0123456789")


def test_the_dev_images_that_are_read_are_those_that_each_seed_draws(tmp_path: Path) -> None:
    path = tmp_path / "dev.npz"
    files.write_arrays(path, dev=validation_bits(60_000, 0.2, 10), images=np.array(60_000))
    for seed in range(10):
        drawn = validation_indices(60_000, 0.2, seed)
        np.testing.assert_array_equal(read_validation(seed, path), drawn, strict=True)
        # The digest is part of a run's key, and takes the type in as well.
        assert files.digest(read_validation(seed, path)) == files.digest(drawn)


def test_dev_images_of_a_number_that_is_no_multiple_of_eight_come_back(workspace: Path) -> None:
    for seed in range(8):
        np.testing.assert_array_equal(read_validation(seed), validation_indices(1437, 0.2, seed), strict=True)


@pytest.mark.parametrize("seed", [8, -1])
def test_a_seed_beyond_those_that_were_drawn_is_refused_with_what_to_do(seed: int, workspace: Path) -> None:
    with pytest.raises(
        UserError, match=f"has the validation splits of seeds 0 to 7, received seed {seed}: set split.seeds"
    ):
        read_validation(seed)


def test_splitting_again_changes_no_byte_and_more_seeds_none_of_the_images(workspace: Path) -> None:
    split_files = [paths.TRAIN, paths.TEST, paths.DEV]
    before = [file.read_bytes() for file in split_files]
    split(0.2, 8)
    assert [file.read_bytes() for file in split_files] == before
    split(0.2, 9)
    assert [file.read_bytes() for file in split_files[:2]] == before[:2]
    np.testing.assert_array_equal(read_validation(7), validation_indices(1437, 0.2, 7))


def test_images_without_labels_are_refused(workspace: Path) -> None:
    files.write_bytes(paths.RAW / "t10k-labels-idx1-ubyte", idx_bytes(np.zeros(359, np.uint8)))
    with pytest.raises(UserError, match="test: 360 images, but 359 labels"):
        split(0.2, 1)


def test_a_dev_split_that_leaves_nothing_to_train_on_is_refused_by_its_name(workspace: Path) -> None:
    with pytest.raises(UserError, match="dev_fraction"):
        split(0.9999, 1)
