"""The data sets that the study knows: where their files lie and how to tell that they are the right ones."""

from dataclasses import dataclass
from pathlib import Path

# Bytes of the four decompressed IDX files, the same for every data set in MNIST's format.
SIZES = {
    "train_images": 16 + 60_000 * 28 * 28,
    "train_labels": 8 + 60_000,
    "test_images": 16 + 10_000 * 28 * 28,
    "test_labels": 8 + 10_000,
}


@dataclass(frozen=True)
class Download:
    """A data set of four files in MNIST's format.

    mirrors: folders and HTTPS addresses, tried in order.
    sha256: of each decompressed file; compressed copies of the same content differ.
    """

    mirrors: tuple[str, ...]
    sha256: dict[str, str]


DOWNLOADS = {
    "mnist": Download(
        mirrors=(
            str(Path("../shared/mnist")),
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        sha256={
            "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Download(
        mirrors=(
            str(Path("../shared/fashion_mnist")),
            "/usr/share/datasets/fashion-mnist",  # where Debian's package dataset-fashion-mnist puts it
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        sha256={
            "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}
