"""Images that a data set has twice: counted, named, and refused where they make the test set meaningless."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from many_seeds.errors import UserError
from stages.aggregate.report.page import copies_warnings
from stages.aggregate.report.parts import Table
from stages.aggregate.sections import images
from stages.fetch.stage import fetch
from stages.split.dataset import LabeledImages
from stages.split.duplicates import report, summarize
from stages.split.stage import split
from stages.study import paths
from stages.study.data import Data
from stages.study.records.data_summary import DataSummary, read_summary

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty study with a data set in own/a: four images of each of two classes, and another one in the test set."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        for number in range(4):
            draw(f"train/{name}/{number}.png")
        draw(f"test/{name}/new.png")


def draw(name: str) -> None:
    path = Path("own/a") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (4, 4), np.uint8)).save(path)


def copy(name: str, to: str) -> None:
    (Path("own/a") / to).write_bytes((Path("own/a") / name).read_bytes())


def prepare(*, allow_duplicates: bool = False) -> DataSummary:
    fetch(Data(name="mine", format="folders", train="own/a", allow_duplicates=allow_duplicates))
    split(0.2, 2)
    return read_summary()


def test_copies_of_training_images_in_the_test_set_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    copy("train/cat/1.png", "test/cat/7.png")
    found = prepare()
    assert found.between.count == 1
    assert "1 of 3 test images has the same pixels as a training image." in capsys.readouterr().err
    assert copies_warnings(found) == ["1 of 3 test images has the same pixels as a training image."]
    counts, copies = (part for part in images.parts(found) if isinstance(part, Table))
    assert [[text for text, _ in row] for row in counts.rows] == [["cat", "4", "2"], ["dog", "4", "1"]]
    assert [[text for text, _ in row] for row in copies.rows] == [["test/cat/7.png", "cat", "train/cat/1.png", "cat"]]


def test_an_image_under_two_classes_in_both_halves_is_refused_by_its_names() -> None:
    copy("train/cat/1.png", "test/dog/7.png")
    with pytest.raises(UserError, match=r"test/dog/7\.png \(dog\) is train/cat/1\.png \(cat\)(?s:.*)allow_duplicates"):
        prepare()
    assert not paths.TRAIN.exists()
    assert prepare(allow_duplicates=True).between.other_class == 1


def test_a_test_set_within_the_training_set_is_refused() -> None:
    for name in ("cat", "dog"):
        copy(f"train/{name}/0.png", f"test/{name}/new.png")
    with pytest.raises(UserError, match="all 2 test images have the pixels of a training image"):
        prepare()


def test_an_image_under_two_classes_in_one_half_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    copy("train/cat/1.png", "train/dog/9.png")
    found = prepare()
    assert (found.within_train.count, found.within_test.count, found.between.count) == (2, 0, 0)
    said = capsys.readouterr().err
    assert "2 training images have the same pixels as a training image of another class." in said
    assert "train/cat/1.png (cat) is train/dog/9.png (dog)" in said


def test_images_of_an_array_are_named_by_their_index_before_the_test_set_was_drawn() -> None:
    pixels = RANDOM.integers(0, 256, (20, 4, 4), np.uint8)
    pixels[10:] = pixels[9::-1]
    np.savez("own/a.npz", images=pixels, labels=np.arange(20) // 2 % 2)
    fetch(Data(name="mine", format="npz", train="own/a.npz", allow_duplicates=True))
    split(0.2, 2)
    for pair in read_summary().between.named:
        assert int(pair.image.split()[-1]) + int(pair.other.split()[-1]) == 19


def test_many_classes_are_summed_up_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    data = LabeledImages(RANDOM.integers(0, 256, (61, 4, 4), np.uint8), np.arange(61) % 30)
    names = [str(label) for label in range(30)]
    report(summarize(data, data.select(np.arange(0)), names))
    assert capsys.readouterr().out == "30 classes with 2 to 3 training images and 0 to 0 test images each\n"
