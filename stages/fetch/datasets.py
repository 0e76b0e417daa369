"""The built-in data sets: where their files are, their digests and their formats."""

from collections.abc import Callable
from dataclasses import dataclass, field

from stages.fetch.digits import digits_files
from stages.fetch.download import File

DIGITS = tuple("0123456789")
IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


@dataclass(frozen=True)
class Dataset:
    """A built-in data set.

    Attributes:
        format: the format of its files: "idx" or "cifar10".
        classes: the names of the labels 0, 1, …
        files: part → its file.
        mirrors: folders and HTTPS addresses that have the files, tried in order.
        generate: a function that returns part → content, for a data set that is generated and not downloaded; else
            None.
    """

    format: str
    classes: tuple[str, ...]
    files: dict[str, File]
    mirrors: tuple[str, ...] = ()
    generate: Callable[[], dict[str, bytes]] | None = field(default=None, compare=False)


def _idx_files(sha256: dict[str, str], *, unpack: bool) -> dict[str, File]:
    """The four files of MNIST's format.

    Args:
        sha256: part → SHA-256 of the file as it is kept, hexadecimal.
        unpack: whether the files are kept unpacked.
    """
    limits = {"images": 16 + 60_000 * 28 * 28, "labels": 8 + 60_000}
    return {
        part: File(name, sha256[part], limit=limits[part.partition("_")[2]], unpack=unpack)
        for part, name in IDX_NAMES.items()
    }


DATASETS = {
    "mnist": Dataset(
        format="idx",
        classes=DIGITS,
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        files=_idx_files(
            {
                "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            unpack=True,
        ),
    ),
    "fashion_mnist": Dataset(
        format="idx",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mirrors=(
            "/usr/share/datasets/fashion-mnist",  # of Debian's package dataset-fashion-mnist
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        files=_idx_files(
            {
                "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
            unpack=True,
        ),
    ),
    # The digests of the next two were published; the files were never downloaded with this code.
    "kmnist": Dataset(
        format="idx",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        files=_idx_files(
            {
                "train_images": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "train_labels": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "test_images": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "test_labels": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            },
            unpack=False,
        ),
    ),
    "cifar10": Dataset(
        format="cifar10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files={
            "train": File(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                limit=200_000_000,
            )
        },
    ),
    "digits": Dataset(
        format="idx",
        classes=DIGITS,
        files={part: File(name, None, limit=0, unpack=True) for part, name in IDX_NAMES.items()},
        generate=digits_files,
    ),
}
