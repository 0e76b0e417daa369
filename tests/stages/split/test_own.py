"""A person's own data through the code of both stages: params.yaml's lines in, arrays out."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from many_seeds.errors import UserError
from stages.fetch.digits import digits_files, idx_bytes
from stages.fetch.stage import fetch
from stages.split.stage import split
from stages.study import paths
from stages.study.data import Data
from stages.study.records.splits import read_classes, read_images
from tests import ROOT
from tests.support.images import declared

RANDOM = np.random.default_rng(0)
NAMES = ["circle", "hexagon", "square", "triangle"]
FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty study, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    return tmp_path


def prepare(**data: Any) -> None:
    """What `dvc repro split` does with these lines of params.yaml."""
    fetch(Data(name="mine", **data))
    split(0.2, 2)


def train_and_test() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (*read_images(paths.TRAIN), *read_images(paths.TEST))


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(array: np.ndarray, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def shapes(folder: Path, each: int = 5) -> dict[Path, np.ndarray]:
    """Colour images of 32x32 pixels in a folder for each of four classes; path → pixels."""
    images = {folder / name / f"{number}.png": pixels(32, 32, 3) for name in NAMES for number in range(each)}
    for path, image in images.items():
        save(image, path)
    return images


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


class TestFolders:
    def test_colour_images_with_named_classes_and_a_test_folder(self) -> None:
        train, test = shapes(Path("own/shapes/train")), shapes(Path("own/shapes/test"), each=2)
        prepare(format="folders", train="own/shapes")
        x, y, x_test, y_test = train_and_test()
        assert read_classes(paths.TRAIN) == NAMES
        assert (x.shape, x_test.shape, y.dtype) == ((20, 32, 32, 3), (8, 32, 32, 3), np.uint8)
        # By file name, whatever the class.
        assert y.tolist() == [0, 1, 2, 3] * 5
        assert y_test.tolist() == [0, 1, 2, 3] * 2
        np.testing.assert_array_equal(x[5], train[Path("own/shapes/train/hexagon/1.png")])
        np.testing.assert_array_equal(x_test[3], test[Path("own/shapes/test/triangle/0.png")])

    def test_two_trees_are_training_and_test(self) -> None:
        shapes(Path("own/a"), each=3), shapes(Path("own/b"), each=2)
        prepare(format="folders", train="own/a", test="own/b", classes=NAMES[::-1])
        assert [len(part) for part in train_and_test()] == [12, 12, 8, 8]
        assert read_classes(paths.TEST) == NAMES[::-1]
        assert train_and_test()[1][:4].tolist() == [3, 2, 1, 0]

    def test_without_a_test_set_a_fifth_of_each_class_is_drawn_once(self) -> None:
        images = shapes(Path("own/shapes"), each=10)
        prepare(format="folders", train="own/shapes")
        x, y, x_test, y_test = train_and_test()
        assert np.bincount(y).tolist() == [8] * 4
        assert np.bincount(y_test).tolist() == [2] * 4
        together = {image.tobytes() for image in (*x, *x_test)}
        assert together == {image.tobytes() for image in images.values()}
        before = paths.TEST.read_bytes()
        split(0.2, 9)
        assert paths.TEST.read_bytes() == before
        prepare(format="folders", train="own/shapes", test_seed=1, test_fraction=0.4)
        assert np.bincount(train_and_test()[3]).tolist() == [4] * 4

    @pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
    def test_an_archive_is_read_like_the_folder_that_it_was_made_from(self, kind: str) -> None:
        shapes(Path("own/shapes"))
        prepare(format="folders", train="own/shapes")
        expected = paths.TRAIN.read_bytes(), paths.TEST.read_bytes()
        if kind == "zip":
            write_zip(Path("own/a"), {str(path): path.read_bytes() for path in Path("own/shapes").rglob("*.png")})
        else:
            with tarfile.open("own/a", "w:gz" if kind == "tar.gz" else "w") as archive:
                archive.add("own/shapes", arcname="./shapes")
        prepare(format="folders", train="own/a")
        assert (paths.TRAIN.read_bytes(), paths.TEST.read_bytes()) == expected

    def test_what_systems_leave_in_folders_is_no_image(self) -> None:
        shapes(Path("own/shapes"))
        for name in (".DS_Store", "circle/Thumbs.db", "__MACOSX/circle/._0.png"):
            path = Path("own/shapes") / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"litter")
        prepare(format="folders", train="own/shapes")
        assert read_classes(paths.TRAIN) == NAMES

    def test_pictures_lose_nothing_and_grey_ones_join_coloured_ones(self) -> None:
        grey, colour = pixels(8, 8), pixels(8, 8, 3)
        opaque = np.dstack([colour, np.full((8, 8), 255, np.uint8)])
        save(grey, Path("own/a/x/0.png"))
        save(opaque, Path("own/a/x/1.png"))
        save(colour, Path("own/a/y/1.bmp"))
        Image.fromarray(grey).convert("P").save("own/a/y/2.gif")
        save(colour, Path("own/a/y/3.webp"), lossless=True)
        save(grey > 127, Path("own/a/y/4.png"))
        for number in range(3):
            save(grey, Path(f"own/b/{'xy'[number % 2]}/{number}.png"))
        prepare(format="folders", train="own/a", test="own/b", allow_duplicates=True)
        images, labels, _, _ = train_and_test()  # in the order 0.png, 1.bmp, 1.png, 2.gif, 3.webp, 4.png
        greys = np.repeat(grey[..., None], 3, 2)
        black_or_white = np.where(greys > 127, 255, 0)
        np.testing.assert_array_equal(images, [greys, colour, colour, greys, colour, black_or_white])
        assert labels.tolist() == [0, 1, 0, 1, 1, 1]

    def test_file_names_and_classes_may_have_any_characters(self) -> None:
        names = ["9.png", "10.png", "1²2.png", "٣1.png", "a:b.png"]
        for name in names:
            for kind in ("12:30", "$5"):
                save(pixels(4, 4), Path("own/a") / kind / name)
        prepare(format="folders", train="own/a")
        assert read_classes(paths.TRAIN) == ["$5", "12:30"]
        assert [len(part) for part in train_and_test()] == [8, 8, 2, 2]

    def test_a_photograph_is_turned_upright(self) -> None:
        image = Image.fromarray(pixels(6, 8))
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        image.save(Path("own") / "turned.png", exif=exif)
        turned = (Path("own") / "turned.png").read_bytes()
        write_zip(Path("own/a.zip"), {f"{name}/{i}.png": turned for name in "ab" for i in range(5)})
        prepare(format="folders", train="own/a.zip", allow_duplicates=True)
        np.testing.assert_array_equal(train_and_test()[0][0], np.rot90(np.asarray(image), -1))

    def test_photographs_of_different_sizes_are_scaled_without_distortion(self) -> None:
        white = np.full((20, 40, 3), 255, np.uint8)
        for name in "ab":
            for number in range(5):
                save(np.maximum(white - number, 250), Path(f"own/a/{name}/{number}.png"))
        save(np.full((9, 9), 255, np.uint8), Path("own/a/a/9.png"))
        for how, black in (("fit", 0.5), ("crop", 0)):
            prepare(format="folders", train="own/a", size=[8, 8], resize=how, allow_duplicates=True)
            images = train_and_test()[0]
            assert images.shape[1:] == (8, 8, 3)
            assert {float((image == 0).mean()) for image in images} <= {black, 0.0}

    def test_fashion_mnist_as_folders_of_png_files_is_fashion_mnist(self) -> None:
        if not FASHION.is_dir():
            pytest.skip(f"fashion_mnist is not at {FASHION}: install Debian's dataset-fashion-mnist")
        fetch(Data(name="fashion_mnist"))
        split(0.2, 2)
        few = [part[:400] for part in train_and_test()]
        names = [f"{label} {name}".replace("/", "-") for label, name in enumerate(read_classes(paths.TRAIN))]
        for half, images, labels in (("train", few[0], few[1]), ("test", few[2], few[3])):
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                save(image, Path(f"own/fashion/{half}/{names[label]}/{number}.png"))
        prepare(format="folders", train="own/fashion")
        for found, expected in zip(train_and_test(), few, strict=True):
            np.testing.assert_array_equal(found, expected, strict=True)


class TestNpz:
    def test_three_classes_and_a_thousand_images_under_own_names(self) -> None:
        images, labels = pixels(1000, 9, 7), np.arange(1000) % 3
        np.savez_compressed("own/a.npz", images=images, labels=labels)
        prepare(format="npz", train="own/a.npz", classes=["low", "mid", "high"])
        x, y, x_test, y_test = train_and_test()
        assert (x.shape, x_test.shape) == ((800, 9, 7), (200, 9, 7))
        assert (y.dtype, np.bincount(y_test).tolist()) == (np.uint8, [67, 67, 66])
        assert read_classes(paths.TEST) == ["low", "mid", "high"]

    def test_the_names_of_keras(self) -> None:
        x, y = pixels(16, 4, 4), np.arange(16) % 2
        np.savez("own/mnist.npz", x_train=x[4:], y_train=y[4:], x_test=x[:4], y_test=y[:4])
        prepare(format="npz", train="own/mnist.npz")
        assert [len(part) for part in train_and_test()] == [12, 12, 4, 4]
        assert read_classes(paths.TEST) == ["0", "1"]

    def test_validation_images_of_medmnist_join_the_training_images(self) -> None:
        x, y = pixels(12, 4, 4, 3), (np.arange(12) % 2)[:, None].astype(np.uint8)
        np.savez(
            "own/med.npz", train_images=x[:6], train_labels=y[:6], val_images=x[6:10], val_labels=y[6:10],
            test_images=x[10:], test_labels=y[10:],
        )  # fmt: skip
        prepare(format="npz", train="own/med.npz")
        found = train_and_test()
        np.testing.assert_array_equal(found[0], x[:10])
        np.testing.assert_array_equal(found[1], y[:10, 0])
        assert len(found[2]) == 2

    def test_the_arrays_of_this_study_are_data_too(self) -> None:
        images, labels = pixels(20, 4, 4, 1), np.arange(20) % 2
        np.savez("own/train.npz", images=images[5:], labels=labels[5:], classes=np.array(["no", "yes"]))
        np.savez("own/test.npz", images=images[:5], labels=labels[:5])
        prepare(format="npz", train="own/train.npz", test="own/test.npz")
        assert read_classes(paths.TRAIN) == ["no", "yes"]
        assert train_and_test()[0].shape == (15, 4, 4)

    def test_more_classes_than_a_byte_can_tell(self) -> None:
        labels = np.repeat(np.arange(300), 2)
        np.savez("own/a.npz", x_train=pixels(600, 2, 2), y_train=labels, x_test=pixels(600, 2, 2), y_test=labels)
        prepare(format="npz", train="own/a.npz")
        assert train_and_test()[1].dtype == np.uint16
        np.testing.assert_array_equal(train_and_test()[1], labels)


class TestIdx:
    def test_four_files_are_read_as_those_of_mnist(self) -> None:
        fetch(Data(name="digits"))
        split(0.2, 2)
        expected = train_and_test()
        parts = digits_files()
        for part, content in parts.items():
            (Path("own") / part).write_bytes(content)
        prepare(format="idx", **{part: f"own/{part}" for part in parts})
        for found, wanted in zip(train_and_test(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted, strict=True)

    def test_colours_are_a_fourth_axis(self) -> None:
        Path("own/x").write_bytes(idx_bytes(pixels(10, 5, 4, 3)))
        Path("own/y").write_bytes(idx_bytes((np.arange(10) % 2).astype(np.uint8)))
        prepare(format="idx", train_images="own/x", train_labels="own/y")
        assert train_and_test()[0].shape == (8, 5, 4, 3)


def folders(change: Callable[[Path], object]) -> dict[str, str]:
    shapes(Path("own/shapes"))
    change(Path("own/shapes"))
    return {"format": "folders", "train": "own/shapes"}


def halves(change: Callable[[Path], object]) -> dict[str, str]:
    shapes(Path("own/shapes/train")), shapes(Path("own/shapes/test"))
    change(Path("own/shapes"))
    return {"format": "folders", "train": "own/shapes"}


def npz(**changes: Any) -> dict[str, Any]:
    arrays = {"images": pixels(30, 4, 4), "labels": np.arange(30) % 3}
    np.savez("own/a.npz", **{name: array for name, array in (arrays | changes).items() if array is not None})
    return {"format": "npz", "train": "own/a.npz"}


def zipped(files: dict[str, bytes]) -> dict[str, str]:
    picture = png(pixels(4, 4))
    write_zip(Path("own/a.zip"), {f"{name}/{i}.png": picture for name in "ab" for i in range(5)} | files)
    return {"format": "folders", "train": "own/a.zip"}


def only_one_class() -> dict[str, str]:
    write_zip(Path("own/a.zip"), {f"a/{i}.png": png(pixels(4, 4)) for i in range(5)})
    return {"format": "folders", "train": "own/a.zip"}


def damaged() -> dict[str, str]:
    Path("own/a.npz").write_bytes(b"PK\3\4 and nothing else")
    return {"format": "npz", "train": "own/a.npz"}


def twice_in_a_zip() -> dict[str, str]:
    data = zipped({})
    with zipfile.ZipFile("own/a.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/0.png", b"")
    return data


def tarred(kind: bytes) -> dict[str, str]:
    with tarfile.open("own/a.tar", "w") as archive:
        entry = tarfile.TarInfo("a/0.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    return {"format": "folders", "train": "own/a.tar"}


def long_header(kind: bytes) -> dict[str, str]:
    entry = tarfile.TarInfo("a/0.png")
    entry.type, entry.size = kind, 1 << 31
    Path("own/a.tar").write_bytes(entry.tobuf() + bytes(2048))
    return {"format": "folders", "train": "own/a.tar"}


def linked_in_a_zip() -> dict[str, str]:
    data = zipped({})
    with zipfile.ZipFile("own/a.zip", "a") as archive:
        entry = zipfile.ZipInfo("a/link.png")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return data


def idx(labels: int) -> dict[str, str]:
    Path("own/x").write_bytes(idx_bytes(pixels(10, 4, 4)))
    Path("own/y").write_bytes(idx_bytes((np.arange(labels) % 2).astype(np.uint8)))
    return {"format": "idx", "train_images": "own/x", "train_labels": "own/y"}


def frames(folder: Path) -> None:
    pages = [Image.fromarray(pixels(32, 32)) for _ in range(2)]
    pages[0].save(folder / "circle/moving.gif", save_all=True, append_images=pages[1:])


def link_to_elsewhere() -> dict[str, str]:
    shapes(Path("elsewhere/shapes"))
    Path("own/link").symlink_to("../elsewhere")
    return {"format": "folders", "train": "own/link/shapes"}


def two_orders_of_names() -> dict[str, str]:
    for name, classes in (("a", ["cat", "dog", "cow"]), ("b", ["dog", "cat", "cow"])):
        np.savez(f"own/{name}.npz", images=pixels(30, 4, 4), labels=np.arange(30) % 3, classes=np.array(classes))
    return {"format": "npz", "train": "own/a.npz", "test": "own/b.npz"}


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "two sizes": (
        lambda: folders(lambda at: save(pixels(20, 30, 3), at / "square/2.png")),
        r"one size: circle/0\.png is 32x32 pixels, but square/2\.png is 30x20. .*data\.size",
    ),
    "two sizes, in test": (
        lambda: halves(lambda at: save(pixels(20, 30, 3), at / "test/square/2.png")),
        r"one size: test/circle/0\.png is 32x32 pixels, but test/square/2\.png is 30x20",
    ),
    "a class in training only": (
        lambda: halves(lambda at: save(pixels(32, 32, 3), at / "train/star/0.png")),
        "test: there should be images of every class, but own/shapes has no folder 'star'",
    ),
    "a class in testing only": (
        lambda: npz(
            images=None,
            x_train=pixels(4, 2, 2),
            y_train=np.array([0, 1, 0, 1]),
            x_test=pixels(3, 2, 2),
            y_test=np.array([0, 1, 2]),
        ),
        "train: there should be images of every class, but there is none of '2'",
    ),
    "an empty class": (
        lambda: zipped({"circle/": b""}),
        "the folder of the class 'circle' is empty",
    ),
    "a text among the images": (
        lambda: folders(lambda at: (at / "circle/notes.txt").write_text("a")),
        r"own/shapes: circle/notes\.txt is not an image",
    ),
    "an image beside the folders": (
        lambda: folders(lambda at: save(pixels(32, 32, 3), at / "0.png")),
        r"0\.png should be directly in the folder of its class",
    ),
    "a strip of which nothing would be left": (
        lambda: folders(lambda at: save(pixels(1, 500, 3), at / "circle/0.png")) | {"size": [32, 32]},
        r"circle/0\.png is too oblong to fit into 32x32 pixels: cut it or remove it",
    ),
    "folders in folders": (
        lambda: folders(lambda at: save(pixels(32, 32, 3), at / "circle/red/0.png")),
        r"circle/red.* should be directly in the folder of its class",
    ),
    "a damaged image": (
        lambda: folders(lambda at: (at / "circle/0.png").write_bytes((at / "circle/0.png").read_bytes()[:99])),
        r"circle/0\.png is damaged",
    ),
    "a transparent image": (
        lambda: folders(lambda at: save(pixels(32, 32, 4), at / "circle/0.png")),
        r"circle/0\.png has transparent pixels",
    ),
    "a transparent palette": (
        lambda: folders(lambda at: Image.fromarray(pixels(32, 32)).save(at / "circle/0.png", transparency=7)),
        r"circle/0\.png has transparent pixels",
    ),
    "a huge image": (
        lambda: folders(lambda at: (at / "circle/0.png").write_bytes(declared(20_000, 20_000))),
        r"circle/0\.png has more pixels than the limit of 67,108,864: scale it down",
    ),
    "a large image": (
        lambda: folders(lambda at: (at / "circle/0.png").write_bytes(declared(10_000, 10_000))),
        r"circle/0\.png has more pixels than the limit of 67,108,864: scale it down",
    ),
    "a long name in a tar archive": (
        lambda: long_header(tarfile.GNUTYPE_LONGNAME),
        r"own/a\.tar should be .* tar archive of one: a header has 2,147,483,648 bytes, expected at most 1,048,576",
    ),
    "long fields in a tar archive": (lambda: long_header(tarfile.XHDTYPE), "a header has 2,147,483,648 bytes"),
    "16 bits": (
        lambda: folders(lambda at: save(np.full((32, 32), 999, np.uint16), at / "circle/0.png")),
        r"circle/0\.png has more than 8 bits per channel",
    ),
    "16 bits in a TIFF file": (
        lambda: folders(lambda at: save(np.full((32, 32), 999, np.uint16), at / "circle/0.tif")),
        r"circle/0\.tif has more than 8 bits per channel",
    ),
    "printer's colours": (
        lambda: folders(lambda at: Image.new("CMYK", (32, 32)).save(at / "circle/0.jpg")),
        r"circle/0\.jpg has pixels of mode CMYK",
    ),
    "several frames": (lambda: folders(frames), r"moving\.gif has 2 frames"),
    "a linked folder": (
        lambda: folders(lambda at: (at / "star").symlink_to("circle")),
        "own/shapes/star is a link to a folder",
    ),
    "data behind a linked folder": (link_to_elsewhere, "own/link is a link to a folder"),
    "a link to nothing": (
        lambda: folders(lambda at: (at / "circle/9.png").symlink_to("nowhere")),
        r"own/shapes/circle/9\.png should be a file, or a link to one",
    ),
    "a pipe": (lambda: folders(lambda at: os.mkfifo(at / "circle/9.png")), r"circle/9\.png should be a file"),
    "a name that is no text": (
        lambda: folders(lambda at: (at / "circle" / os.fsdecode(b"\xff.png")).write_bytes(b"")),
        r"own/shapes: b'circle/\\xff\.png' should have a name in UTF-8",
    ),
    "a backslash in a name": (lambda: zipped({"a\\0.png": b""}), "has a backslash"),
    "names in another order": (two_orders_of_names, r"own/b\.npz: classes should be those of the training images"),
    "an array that nobody reads": (
        lambda: npz(X_test=pixels(3, 4, 4), Y_test=np.arange(3)),
        r"own/a\.npz contains X_test, Y_test, which is not a known array",
    ),
    "other classes than the folders": (
        lambda: folders(lambda at: None) | {"classes": ["circle", "star"]},
        "data.classes should name the folders circle, hexagon, square, triangle; received circle, star",
    ),
    "one class": (only_one_class, "only one class"),
    "a name that leads out": (lambda: zipped({"../../evil.png": b""}), r"'\.\./\.\./evil\.png' leads out"),
    "an absolute name": (lambda: zipped({"/etc/evil.png": b""}), "leads out of the archive"),
    "a name that twice": (twice_in_a_zip, r"contains a/0\.png twice"),
    "a link in a tar archive": (lambda: tarred(tarfile.SYMTYPE), "neither a file nor a folder"),
    "a hard link in a tar archive": (lambda: tarred(tarfile.LNKTYPE), "neither a file nor a folder"),
    "a link in a zip archive": (linked_in_a_zip, r"a/link\.png is a link"),
    "a file that is no archive": (
        lambda: {**damaged(), "format": "folders"},
        r"own/a\.npz should be a folder, or a valid zip or tar archive",
    ),
    "a file that is missing": (lambda: {"format": "npz", "train": "own/a.npz"}, r"own/a\.npz: no such file"),
    "another file than the checksum says": (
        lambda: npz() | {"sha256": {"train": "0" * 64}},
        r"own/a\.npz: is another file: its SHA-256 should be 0000",
    ),
    "a checksum of a folder": (
        lambda: folders(lambda at: None) | {"sha256": {"train": "0" * 64}},
        "data.sha256.train should be the SHA-256 of a file, but own/shapes is a folder",
    ),
    "labels beyond the names": (
        lambda: npz() | {"classes": ["a", "b"]},
        r"labels should be from 0 to 1 \(there are 2 names of classes\), received 2",
    ),
    "negative labels": (lambda: npz(labels=np.arange(30) % 3 - 1), "labels should be from 0 to .* received -1"),
    "labels that skip a class": (lambda: npz(labels=np.arange(30) % 2 * 2), "there is none of '1'"),
    "one-hot labels": (
        lambda: npz(labels=np.eye(3, dtype=int)[np.arange(30) % 3]),
        r"labels should be whole numbers .* one-hot; store labels\.argmax\(axis=1\)",
    ),
    "labels of several classes at once": (
        lambda: npz(labels=np.ones((30, 14), int)),
        r"received int64 \[30, 14\]: an image should have one class; store one column",
    ),
    "labels as text": (lambda: npz(labels=np.array(["a", "b"] * 15)), r"np\.unique\(labels, return_inverse=True\)"),
    "labels as floats": (lambda: npz(labels=np.arange(30) % 3 + 0.0), r"store labels\.astype\(np\.int64\)"),
    "yes or no": (lambda: npz(labels=np.arange(30) % 2 == 0), r"store labels\.astype\(np\.uint8\)"),
    "measurements": (lambda: npz(labels=RANDOM.random(30)), "compares classifiers, not regressions"),
    "labels from 1": (lambda: npz(labels=np.arange(30) % 3 + 1), "none of '0': labels start at 1; store labels - 1"),
    "named labels from 1": (
        lambda: npz(labels=np.arange(30) % 3 + 1) | {"classes": ["a", "b", "c"]},
        r"labels should be from 0 to 2 .* received 3: they start at 1; store labels - 1",
    ),
    "float pixels": (lambda: npz(images=RANDOM.random((30, 4, 4))), "pixels should be uint8 .* received float64"),
    "16-bit pixels": (lambda: npz(images=np.zeros((30, 4, 4), np.uint16)), "pixels should be uint8 .* received uint16"),
    "four channels": (lambda: npz(images=pixels(30, 4, 4, 4)), r"images should be .* received \[30, 4, 4, 4\]"),
    "flattened images": (lambda: npz(images=pixels(30, 16)), r"images should be .* received \[30, 16\]"),
    "no images": (lambda: npz(images=pixels(0, 4, 4)), r"images should be .* received \[0, 4, 4\]"),
    "an array of one class": (lambda: npz(labels=np.zeros(30, int)), "only one class"),
    "an archive that unpickles": (lambda: npz(labels=np.array([{}] * 30)), "contains Python objects"),
    "a damaged archive": (damaged, r"own/a\.npz is damaged"),
    "unknown names": (
        lambda: npz(labels=None, y=np.arange(30)),
        "should contain x_train and y_train, or .*it contains images, y",
    ),
    "two test sets": (
        lambda: npz(x_test=pixels(3, 4, 4), y_test=np.arange(3)) | {"test": "own/a.npz"},
        r"contains a test set: remove data\.test",
    ),
    "a test set and a share of one": (
        lambda: npz(x_test=pixels(3, 4, 4), y_test=np.arange(3)) | {"test_fraction": 0.5},
        "data.test_fraction draws a test set, but the data have one",
    ),
    "test images of another size": (
        lambda: npz(x_test=pixels(3, 5, 4), y_test=np.arange(3)),
        r"one shape, received \[4, 4\] and \[5, 4\]",
    ),
    "fewer labels than images": (lambda: idx(labels=9), "train: 10 images, but 9 labels"),
    "too few images to draw a test set": (
        lambda: npz(images=pixels(4, 4, 4), labels=np.array([0, 1, 2, 2])),
        "no test set is given, and 0.2 of 4 images can't be drawn .* the rarest, '0', has 1",
    ),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD.keys())
def test_bad_data_are_refused_with_what_is_wrong(make: Callable[[], dict[str, Any]], said: str) -> None:
    data = make()
    with pytest.raises(UserError, match=said):
        prepare(**data)
    assert not paths.TRAIN.exists()


def test_data_that_do_not_fit_into_memory_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes(Path("own/shapes"))
    monkeypatch.setattr("stages.split.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=50_000))
    expected = r"own/shapes: 20 images need 0\.0 GiB of memory \(3 copies of .*let `data\.size: \[64, 64\]`"
    with pytest.raises(UserError, match=expected):
        prepare(format="folders", train="own/shapes")
    prepare(format="folders", train="own/shapes", size=[8, 8])
    with pytest.raises(UserError, match=r"own/a\.npz: its arrays need .*: store fewer or smaller images, or use"):
        prepare(**npz(images=np.zeros((30, 40, 40), np.uint8)))


@pytest.mark.parametrize("empty", ["star", "circle/red"])
def test_an_empty_folder_is_refused_by_fetch_since_dvc_does_not_notice_that_it_is_removed(empty: str) -> None:
    shapes(Path("own/shapes"))
    data = Data(name="mine", format="folders", train="own/shapes")
    Path("own/shapes", empty).mkdir()
    with pytest.raises(UserError, match=f"the folder own/shapes/{empty} is empty: put images into it, or remove it"):
        fetch(data)
    Path("own/shapes", empty).rename("own/shapes/.cache")
    fetch(data)


def test_the_first_ten_of_many_bad_files_are_named_at_once() -> None:
    def break_many(at: Path) -> None:
        save(pixels(32, 32, 4), at / "circle/clear.png")
        for number in range(14):
            (at / f"square/{number:02}.txt").write_text("a")

    with pytest.raises(UserError) as caught:
        prepare(**folders(break_many))
    lines = str(caught.value).splitlines()
    assert lines[0] == "own/shapes: 15 files should be fixed or removed:"
    assert lines[1] == "  circle/clear.png has transparent pixels: store it without transparency"
    assert len(lines) == 12
    assert lines[-1] == "  and 5 more"


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.split.archive.LIMIT", 1000)
    data = zipped({"a/9.png": bytes(100_000)})
    with pytest.raises(UserError, match="its unpacked size is over the limit"):
        prepare(**data)


def test_cifar10_is_read_from_its_binary_version(tmp_path: Path) -> None:
    from stages.split import cifar10

    images, labels = pixels(60, 32, 32, 3), (np.arange(60) % 10).astype(np.uint8)
    rows = np.hstack([labels[:, None], images.transpose(0, 3, 1, 2).reshape(60, -1)])
    with tarfile.open("cifar.tar.gz", "w:gz") as archive:
        for number, name in enumerate([*cifar10.TRAIN, *cifar10.TEST]):
            content = rows[10 * number : 10 * number + 10].tobytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    halves = cifar10.read({"train": Path("cifar.tar.gz")}, {"train": "CIFAR-10"}, None)
    assert halves.test is not None
    np.testing.assert_array_equal(halves.train.images, images[:50])
    np.testing.assert_array_equal(halves.test.labels, labels[50:])
    with pytest.raises(UserError, match="should be a folder, or a valid zip or tar archive"):
        cifar10.read({"train": ROOT / "README.md"}, {"train": "CIFAR-10"}, None)
