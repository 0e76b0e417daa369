"""The binary version of CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version"."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from many_seeds.errors import UserError
from stages.split.archive import contents_of
from stages.split.dataset import Dataset, LabeledImages

RECORD = 1 + 3 * 32 * 32  # a label, then the red, the green and the blue plane
FOLDER = "cifar-10-batches-bin"
TRAIN = [f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6)]
TEST = [f"{FOLDER}/test_batch.bin"]


def read(files: Mapping[str, Path], sources: Mapping[str, str], classes: list[str] | None) -> Dataset:
    """Images uint8 [n, 32, 32, 3] and labels uint8 [n] of the archive `train`, batch after batch.

    Args:
        files: train → archive.
        sources: train → the name of the archive in errors.
        classes: the names of the labels; returned as they are.

    Raises:
        UserError: the archive is damaged, or lacks a batch.
    """
    found = contents_of(files["train"], sources["train"])
    batches = {str(name): content for name, content in found if content is not None and name.suffix == ".bin"}
    if missing := [name for name in (*TRAIN, *TEST) if name not in batches]:
        raise UserError(f"{sources['train']} should contain {', '.join(missing)}: delete it and run `dvc repro`")
    return Dataset(_half(batches, TRAIN), _half(batches, TEST), classes)


def _half(batches: Mapping[str, bytes], names: list[str]) -> LabeledImages:
    content = b"".join(batches[name] for name in names)
    if len(content) % RECORD:
        raise UserError(
            f"{', '.join(names)} should consist of records of {RECORD:,} bytes, found {len(content):,} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return LabeledImages(np.ascontiguousarray(images), records[:, 0].copy())
