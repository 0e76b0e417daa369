"""Roughly how long the training of variants takes."""

from collections.abc import Sequence

from many_seeds.output.messages import counted, duration
from stages.study import files, paths
from stages.study.params import Params
from stages.train import executors

# Multiplications per second of a worker with one thread. Measured; small networks are slower.
SPEED = 2e10


def describe(study: Params, variants: Sequence[str], *, data_are_stale: bool) -> str:
    """A sentence with the number of runs of some variants, at most, and roughly how long they take.

    Args:
        study: the content of params.yaml.
        variants: the variants that are trained; their finished runs count, too.
        data_are_stale: whether data/train.npz is that of other data, or is not there.
    """
    runs = sum(study.recipe(name).seeds for name in variants)
    counts = f"To train: at most {counted(runs, 'run')} of {counted(len(variants), 'variant')}"
    if data_are_stale or not paths.TRAIN.exists():
        return f"{counts}; after `dvc repro split`, `make stale` estimates for how long"
    seconds, at_once = _seconds(study, variants), executors.slots(study.recipe(variants[0]))
    return f"{counts}, very roughly {duration(seconds / at_once)} with {at_once} at a time"


def _seconds(study: Params, variants: Sequence[str]) -> float:
    """The duration of all runs of some variants, one after the other."""
    shape = files.read_arrays(paths.TRAIN)["images"].shape
    return sum(study.recipe(name).seeds * study.recipe(name).cost(shape) / SPEED for name in variants)
