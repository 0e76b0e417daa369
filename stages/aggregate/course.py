"""What was reported in 2020: the figures of the course work on MNIST."""

import itertools
from pathlib import Path

import pandas as pd

from stages.study.params import Params

FOLDER = Path(__file__).parent / "reference"


def told(study: Params) -> bool:
    """Whether the figures of 2020 are of this data set: beside another's they would mislead."""
    return study.data.name == "mnist"


def scores() -> pd.DataFrame:
    """The notebook's scores over seeds: variant, seed, test_loss, test_accuracy, epochs."""
    return pd.read_csv(FOLDER / "notebook-2020.csv")


def accuracy() -> dict[str, float]:
    """Mean test accuracy of each variant that has one."""
    course = pd.read_csv(FOLDER / "course-2020.csv").set_index("variant")["test_accuracy"]
    return {**course.to_dict(), **scores().groupby("variant")["test_accuracy"].mean().to_dict()}


def differences() -> dict[tuple[str, str], float]:
    """Points that each step gained over the step before it, by (predecessor, step); one seed each."""
    found = {}
    for _, chain in pd.read_csv(FOLDER / "ablations-2020.csv").groupby("chain"):
        for before, after in itertools.pairwise(chain.itertuples()):
            gained = after.test_accuracy - before.test_accuracy
            found[before.variant, after.variant] = 100 * gained
    return found
