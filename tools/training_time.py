"""Roughly how long the training of variants takes."""

from collections.abc import Sequence

from many_seeds.output.messages import counted, duration
from stages.study import files, paths
from stages.study.params import Params
from stages.train import executors

# Of one run on one core: multiplications per second (benchmarks/README.md: 4e10 of cnn_tuned, 6e10 of mlp_tuned), and
# seconds that do not depend on its size, such as the compilation of its steps.
SPEED, START = 3e10, 10


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
    recipes = [study.recipe(name) for name in variants]
    return sum(recipe.seeds * (START + recipe.cost(shape) / SPEED) for recipe in recipes)
