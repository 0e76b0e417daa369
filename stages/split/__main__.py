"""Split stage: raw files into arrays, and the dev indices of each seed."""

import io

import numpy as np
from sklearn.model_selection import train_test_split

from stages import files, params, records, terminal
from stages.errors import StudyError
from stages.split.idx import read_idx


def dev_indices(images: int, dev_fraction: float, seed: int) -> np.ndarray:
    """The sorted indices, int64 [dev images], of the training images that `seed` sets aside.

    Raises:
        StudyError: `dev_fraction` of so few images leaves nothing on one side.
    """
    try:
        _, dev = train_test_split(np.arange(images), test_size=dev_fraction, random_state=seed)
    except ValueError as error:
        raise StudyError(f"split.dev_fraction {dev_fraction:g} does not suit {images:,} images: {error}") from error
    return np.sort(dev)


def split(dev_fraction: float, seeds: list[int]) -> None:
    for part, target in {"train": records.TRAIN, "test": records.TEST}.items():
        images = read_idx(records.RAW / records.RAW_FILES[f"{part}_images"], axes=3)
        labels = read_idx(records.RAW / records.RAW_FILES[f"{part}_labels"], axes=1)
        if len(images) != len(labels):
            raise StudyError(f"{part}: {len(images):,} images, but {len(labels):,} labels")
        files.write_arrays(target, images=images, labels=labels)
        if part == "train":
            for seed in seeds:
                buffer = io.BytesIO()
                np.save(buffer, dev_indices(len(images), dev_fraction, seed), allow_pickle=False)
                files.write_bytes(records.dev_path(seed), buffer.getvalue())
    files.remove_unknown(records.DEV, {records.dev_path(seed).name for seed in seeds})


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.split", __doc__)
    study = params.load()
    split(study.split.dev_fraction, study.seeds)


if __name__ == "__main__":
    main()
