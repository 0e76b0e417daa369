"""The figures that the course work of 2020 reported on MNIST."""

import itertools
from pathlib import Path

import pandas as pd

from stages.study.params import Params

FOLDER = Path(__file__).parent


def applies_to(study: Params) -> bool:
    """Whether the figures are of the study's data set."""
    return study.data.name == "mnist"


def scores() -> pd.DataFrame:
    """The scores of the notebook, a row for each variant and seed: variant, seed, test_loss, test_accuracy, epochs."""
    return pd.read_csv(FOLDER / "notebook-2020.csv")


def accuracy() -> dict[str, float]:
    """Mean test accuracy of each variant, as a fraction."""
    reported = pd.read_csv(FOLDER / "course-2020.csv").set_index("variant")["test_accuracy"]
    return {**reported.to_dict(), **scores().groupby("variant")["test_accuracy"].mean().to_dict()}


def differences() -> dict[tuple[str, str], float]:
    """Difference of each step to its predecessor in percentage points, one seed each, by (predecessor, step)."""
    found = {}
    for _, chain in pd.read_csv(FOLDER / "ablations-2020.csv").groupby("chain"):
        for before, after in itertools.pairwise(chain.itertuples()):
            found[before.variant, after.variant] = 100 * (after.test_accuracy - before.test_accuracy)
    return found
