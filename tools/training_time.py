"""How long runs take on this machine: the mean of those that are here, or an estimate from the recipe"""

import time
import zipfile
from collections.abc import Sequence

import numpy as np

from many_seeds.output.messages import counted, duration
from stages.study import paths
from stages.study.params import Params
from stages.study.records.models import read_facts
from stages.train import executors

# Multiplications per second of a run on one core, as a share of those of products of small matrices: 4e10 of cnn_tuned
# and 6e10 of mlp_tuned (benchmarks/README.md), where the products have 7e10 to 1e11.
SHARE = 0.5
START = 10  # seconds of a run that do not depend on its size, such as the compilation of its steps
# Of the products. Larger ones would be computed on several cores.
SIDE, PRODUCTS, REPEATS = 64, 100, 10


def mean_seconds(study: Params) -> dict[str, float]:
    """Variant → the mean duration of those of its runs that are in this workspace; without runs it is left out."""
    means = {}
    for variant, recipe in study.variants.items():
        folders = [paths.run_path(variant, seed) for seed in range(recipe.seeds)]
        seconds = [read_facts(folder)["seconds"] for folder in folders if (folder / "run.json").exists()]
        if seconds:
            means[variant] = sum(seconds) / len(seconds)
    return means


def expected_seconds(study: Params, shape: Sequence[int]) -> dict[str, float]:
    """Variant → the mean duration of its runs; where none is here, an estimate that may be wrong by a factor of 3.

    Args:
        study: the content of params.yaml.
        shape: of the training images, [n, height, width] or [n, height, width, 3].
    """
    speed = SHARE * _products_per_second() * SIDE**3
    estimates = {name: START + recipe.cost(tuple(shape)) / speed for name, recipe in study.variants.items()}
    return estimates | mean_seconds(study)


def _products_per_second() -> float:
    """How many products of small matrices this machine computes per second on one core, when nothing disturbs it."""
    matrix = np.ones((SIDE, SIDE), np.float32)
    result, durations = np.empty_like(matrix), list[float]()
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            np.matmul(matrix, matrix, out=result)
        durations.append(time.perf_counter() - start)
    return PRODUCTS / min(durations)


def images_shape() -> tuple[int, ...]:
    """The shape of the images in data/train.npz, from its header: the images need not be read."""
    with zipfile.ZipFile(paths.TRAIN) as archive, archive.open("images.npy") as images:
        np.lib.format.read_magic(images)
        shape, _, _ = np.lib.format.read_array_header_1_0(images)
    return tuple(shape)


def describe(study: Params, variants: Sequence[str], *, data_are_stale: bool) -> str:
    """A sentence with the number of runs of some variants, at most, and roughly how long they take.

    Args:
        study: the content of params.yaml.
        variants: the variants that are trained; their finished runs count, too.
        data_are_stale: whether data/train.npz is that of other data, or is not there.
    """
    runs = {name: study.recipe(name).seeds for name in variants}
    counts = f"To train: at most {counted(sum(runs.values()), 'run')} of {counted(len(variants), 'variant')}"
    if data_are_stale or not paths.TRAIN.exists():
        return f"{counts}; after `dvc repro split`, `make stale` estimates for how long"
    seconds, at_once = expected_seconds(study, images_shape()), executors.slots(study.recipe(variants[0]))
    total = sum(count * seconds[name] for name, count in runs.items())
    return f"{counts}, very roughly {duration(total / at_once)} with {at_once} at a time"
