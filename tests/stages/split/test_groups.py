"""Groups of images through both stages: files in, splits that keep groups together out."""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from many_seeds.errors import UserError
from stages.fetch.stage import fetch
from stages.split.groups import draw_groups, draw_stratified_groups, number_groups
from stages.split.stage import split, validation_bits
from stages.study import files, paths
from stages.study.data import Data
from stages.study.records.splits import read_groups, read_images, read_validation

RANDOM = np.random.default_rng(0)
SEEDS = 5


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty study, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()


def prepare(**data: Any) -> None:
    """What `dvc repro split` does with these lines of params.yaml."""
    fetch(Data(name="mine", **data))
    split(0.2, SEEDS)


def numbered(images: int) -> np.ndarray:
    """Images of which each has its number as its first two pixels, so that it can be found again."""
    pixels = RANDOM.integers(0, 256, (images, 4, 4), dtype=np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = np.divmod(np.arange(images), 256)
    return pixels


def numbers(path: Path) -> np.ndarray:
    """The numbers of the images of data/train.npz or data/test.npz."""
    images = read_images(path)[0].reshape(-1, 16).astype(int)
    return 256 * images[:, 0] + images[:, 1]


def write_npz(path: str = "own/a.npz", images: int = 600, groups: Any = None, **others: Any) -> dict[str, str]:
    arrays = {"images": numbered(images), "labels": np.arange(images) % 3, "groups": groups, **others}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return {"format": "npz", "train": "own/a.npz"}


PATIENTS = RANDOM.integers(0, 60, 600)  # about ten images each


@pytest.mark.parametrize("groups", [PATIENTS, np.char.add("patient ", PATIENTS.astype(str))], ids=["numbers", "text"])
def test_whole_groups_are_drawn_for_the_test_set_and_for_validation(
    groups: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(**write_npz(groups=groups))
    train, test = numbers(paths.TRAIN), numbers(paths.TEST)
    assert sorted([*train, *test]) == list(range(600))
    assert not set(PATIENTS[train]) & set(PATIENTS[test])
    assert 120 <= len(test) <= 150
    counts = np.bincount(read_images(paths.TEST)[1])
    assert np.abs(counts / 200 - 0.2).max() < 0.06
    for seed in range(SEEDS):
        validation = read_validation(seed)
        assert not set(PATIENTS[train][validation]) & set(np.delete(PATIENTS[train], validation))
        assert 0.2 <= len(validation) / len(train) < 0.25
    assert not np.array_equal(read_validation(0), read_validation(1))
    found = read_groups(paths.TEST)
    assert found is not None
    np.testing.assert_array_equal(found, number_groups(PATIENTS[test]), strict=True)
    of_test = len(set(PATIENTS[test]))
    printed = capsys.readouterr().out
    assert f"groups: {60 - of_test} of training images, {of_test} of test images" in printed
    assert "fewer than 30 groups of test images, comparisons have no interval for new images" in printed


def test_a_draw_of_groups_is_the_same_again_and_another_with_another_seed() -> None:
    data = write_npz(groups=PATIENTS)
    made = [paths.TRAIN, paths.TEST, paths.DEV]
    prepare(**data)
    first = [path.read_bytes() for path in made]
    split(0.2, SEEDS)
    assert [path.read_bytes() for path in made] == first
    prepare(**data, test_seed=1)
    assert paths.TEST.read_bytes() != first[1]


def test_numbers_or_names_of_groups_make_no_difference() -> None:
    prepare(**write_npz(groups=PATIENTS))
    named = files.digest(*(path.read_bytes() for path in (paths.TEST, paths.DEV)))
    arrays = dict(np.load("own/a.npz"))
    names = RANDOM.permutation(60)
    np.savez("own/a.npz", **{**arrays, "groups": np.char.add("patient ", names[PATIENTS].astype(str))})
    prepare(format="npz", train="own/a.npz")
    assert files.digest(*(path.read_bytes() for path in (paths.TEST, paths.DEV))) == named


def test_without_groups_no_file_has_any() -> None:
    prepare(**write_npz())
    assert read_groups(paths.TEST) is None
    for path in (paths.TRAIN, paths.TEST):
        assert list(files.read_arrays(path)) == ["images", "labels", "classes"]


def test_groups_of_one_are_drawn_as_many_as_single_images() -> None:
    labels = np.repeat([0, 1, 2], [400, 100, 61])
    drawn = draw_stratified_groups(labels, np.arange(561), 0.2, 0)
    assert np.bincount(labels[drawn]).tolist() == [81, 20, 12]  # the fifth of 561 is 113 at least
    assert len(draw_groups(np.arange(561), 0.2, 0)) == 113


@pytest.mark.parametrize("seed", range(5))
def test_classes_in_groups_of_their_own_are_in_both_halves(seed: int) -> None:
    """As patients with one diagnosis each."""
    groups = np.repeat(np.arange(20), 7)
    labels = groups % 10
    drawn = draw_stratified_groups(labels, groups, 0.2, seed)
    assert (np.bincount(labels[drawn], minlength=10) == 7).all()


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_drawn_where_there_are_no_others(seed: int) -> None:
    groups, labels = np.repeat([0, 1, 2], 100), np.arange(300) % 2
    assert len(draw_stratified_groups(labels, groups, 0.05, seed)) == 100
    assert len(draw_groups(groups, 0.05, seed)) == 100
    unequal = np.repeat([0, 1, 2], [10, 9, 281])
    assert len(draw_groups(unequal, 0.2, seed)) in (19, 281, 290, 291)  # one group is left in any order


def test_validation_draws_every_group_about_equally_often() -> None:
    groups = np.repeat(np.arange(50), 4)
    bits = np.unpackbits(validation_bits(200, 0.2, 400, groups), axis=1, count=200)
    assert set(bits.sum(axis=1)) == {40}
    assert bits.mean(axis=0) == pytest.approx(0.2, abs=0.08)


def test_groups_of_a_given_test_set(capsys: pytest.CaptureFixture[str]) -> None:
    write_npz("own/b.npz", images=90, groups=np.arange(90) // 2 + 1000)
    prepare(**write_npz(groups=PATIENTS), test="own/b.npz")
    np.testing.assert_array_equal(read_groups(paths.TEST), np.arange(90) // 2)
    printed = capsys.readouterr()
    assert "groups: 60 of training images, 45 of test images" in printed.out
    assert "no interval" not in printed.out
    assert "warning" not in printed.err


def test_groups_in_both_halves_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_npz("own/b.npz", images=90, groups=np.array(["7", "8", *["other"] * 88]))
    prepare(**write_npz(groups=PATIENTS), test="own/b.npz")
    shared = int(np.isin(PATIENTS, [7, 8]).sum())
    expected = (
        f"warning: 2 groups of the test images, 7, 8, are among the training images too: 2 of the 90 test images and "
        f"{shared} of the 600 training images"
    )
    assert expected in capsys.readouterr().err


def test_validation_images_join_the_training_images_with_their_groups() -> None:
    images, labels = numbered(90), np.arange(90) % 3
    arrays: dict[str, Any] = {}
    for name, part in (("train", slice(60)), ("val", slice(60, 80)), ("test", slice(80, 90))):
        arrays |= {f"{name}_images": images[part], f"{name}_labels": labels[part]}
        arrays[f"{name}_groups"] = (np.arange(90) // 10)[part][:, None]
    np.savez("own/a.npz", **arrays)
    prepare(format="npz", train="own/a.npz")
    assert (len(numbers(paths.TRAIN)), len(read_validation(0))) == (80, 20)
    np.testing.assert_array_equal(read_groups(paths.TEST), np.zeros(10))
    del arrays["val_groups"]
    np.savez("own/a.npz", **arrays)
    with pytest.raises(UserError, match="both have groups or both have none: add the groups of the validation images"):
        prepare(format="npz", train="own/a.npz")


def write_folders(folder: str, table: Sequence[Sequence[str]] | None, each: int = 12) -> list[str]:
    """Images of three classes in `folder`, and groups.csv; returns the paths of the images in the folder."""
    found = [f"{name}/{number}.png" for name in "abc" for number in range(each)]
    for path, image in zip(found, numbered(len(found)), strict=True):
        Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(Path(folder, path))
    if table is not None:
        write_table(folder, table)
    return found


def write_table(folder: str, rows: Sequence[Sequence[str]], encoding: str = "utf-8") -> None:
    with Path(folder, "groups.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(images: Sequence[str]) -> list[list[str]]:
    """A table in which the images of the same number, in all classes, are a group."""
    return [["file", "group"], *([path, f"patient {Path(path).stem}"] for path in images)]


def test_a_table_names_the_groups_of_images_in_folders() -> None:
    images = write_folders("own/shapes", None)
    write_table("own/shapes", rows_of(images), encoding="utf-8-sig")  # as spreadsheets write it
    prepare(format="folders", train="own/shapes")
    number_of = numbers(paths.TEST) % 12
    assert len(number_of) == 9  # three patients of three images
    np.testing.assert_array_equal(read_groups(paths.TEST), number_groups(number_of))
    assert not set(number_of) & set(numbers(paths.TRAIN) % 12)


def test_a_table_in_an_archive_of_a_folder_is_that_of_the_folder() -> None:
    write_folders("own/shapes", rows_of(write_folders("own/shapes", None)))
    prepare(format="folders", train="own/shapes")
    expected = [path.read_bytes() for path in (paths.TRAIN, paths.TEST, paths.DEV)]
    with zipfile.ZipFile("own/a.zip", "w") as archive:
        for path in Path("own/shapes").rglob("*.*"):
            archive.write(path, path.relative_to("own"))
    prepare(format="folders", train="own/a.zip")
    assert [path.read_bytes() for path in (paths.TRAIN, paths.TEST, paths.DEV)] == expected


@pytest.mark.parametrize("tables", ["one", "two", "parts"])
def test_a_test_folder_has_groups_too(tables: str) -> None:
    halves = {half: write_folders(f"own/shapes/{half}", None, each) for half, each in (("train", 8), ("test", 4))}
    if tables == "one":
        rows = [[f"{half}/{path}", group] for half in halves for path, group in rows_of(halves[half])[1:]]
        write_table("own/shapes", [["file", "group"], *rows])
    else:
        for half, images in halves.items():
            write_table(f"own/shapes/{half}", rows_of(images))
    parts = {"train": "own/shapes"}
    if tables == "parts":
        parts = {half: f"own/shapes/{half}" for half in halves}
    prepare(format="folders", **parts)
    np.testing.assert_array_equal(read_groups(paths.TEST), np.arange(12) // 3)


FOLDER_ERRORS: dict[str, tuple[Any, str]] = {
    "an image without a group": (lambda rows: rows[:-1], r"received 1 file without a group \(c/11\.png\): fix"),
    "an image named again": (lambda rows: [*rows, rows[1]], r"received 1 file named again \(a/0\.png\)"),
    "a name of nothing": (
        lambda rows: [*rows[:-1], ["c/99.png", "x"]],
        r"1 file without a group \(c/11\.png\); 1 file not there \(c/99\.png\)",
    ),
    "an absolute name": (lambda rows: [*rows[:-1], ["/c/11.png", "x"]], r"1 file not there \(/c/11\.png\)"),
    "an empty group": (lambda rows: [*rows[:-1], ["c/11.png", " "]], r"row 37 should have a file and its group"),
    "other columns": (
        lambda rows: [["image", "patient"], *rows[1:]],
        r"own/shapes: groups\.csv should have the columns file and group.*36 rows with the columns image, patient",
    ),
    "semicolons": (lambda rows: [[";".join(row)] for row in rows], r"received 36 rows with the columns file;group"),
    "no rows": (lambda rows: rows[:1], "received 0 rows with the columns file, group"),
    "nothing": (lambda rows: [], "received 0 rows with the columns none"),
}


@pytest.mark.parametrize(("change", "said"), FOLDER_ERRORS.values(), ids=FOLDER_ERRORS.keys())
def test_a_table_that_does_not_name_each_image_once_is_refused(change: Any, said: str) -> None:
    write_table("own/shapes", change(rows_of(write_folders("own/shapes", None))))
    with pytest.raises(UserError, match=said):
        prepare(format="folders", train="own/shapes")


def test_a_table_that_is_no_text_is_refused() -> None:
    write_folders("own/shapes", None)
    Path("own/shapes/groups.csv").write_bytes("file,group\na/0.png,Müller\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"groups\.csv should be a CSV file in UTF-8"):
        prepare(format="folders", train="own/shapes")


NPZ_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"groups": PATIENTS[:599]}, "train: 600 images, but groups of 599: give each image its group"),
    "fractions": ({"groups": PATIENTS / 7}, r"groups should be whole numbers or text \[n\].* received float64 \[600\]"),
    "several": ({"groups": np.zeros((600, 2), int)}, r"received int64 \[600, 2\]"),
    "an empty name": (
        {"groups": np.array(["p", *["", "q"] * 299, "q"])},
        r"received an empty one for 299 images \(indices 1, 3, 5, .* and 289 more\)",
    ),
    "one group": ({"groups": np.zeros(600, int)}, "can't be drawn .*: '0' is in 1 of 1 groups"),
    "a class in one group": (
        {"groups": np.where(np.arange(600) % 3 == 2, 99, PATIENTS)},
        "whole groups can't be drawn as one with all classes .*: '2' is in 1 of 61 groups. Add groups, give a test set",
    ),
    "of other images": (
        {"groups_train": PATIENTS},
        r"contains groups_train, the groups of x_train, which it does not contain: rename it \(groups for images\)",
    ),
}


@pytest.mark.parametrize(("arrays", "said"), NPZ_ERRORS.values(), ids=NPZ_ERRORS.keys())
def test_bad_groups_of_an_archive_are_refused(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        prepare(**write_npz(**arrays))
    assert not paths.TRAIN.exists()


@pytest.mark.parametrize(("first", "second"), [(PATIENTS, None), (None, np.arange(90))])
def test_groups_of_one_half_only_are_refused(first: np.ndarray | None, second: np.ndarray | None) -> None:
    write_npz("own/b.npz", images=90, groups=second)
    with pytest.raises(UserError, match="both have groups or both have none; the"):
        prepare(**write_npz(groups=first), test="own/b.npz")


def test_validation_images_need_a_second_group() -> None:
    write_npz("own/b.npz", images=90, groups=np.arange(90))
    with pytest.raises(UserError, match="takes at least 2 groups of training images, received 1"):
        prepare(**write_npz(groups=np.full(600, 99)), test="own/b.npz")
