"""The evaluation of one run on the test set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluate import scores
from stages.evaluate.outputs import labels_of, predict
from stages.recipes.shared.recipe import Recipe
from stages.study import files
from stages.study.provenance import environments
from stages.study.provenance.environments import Environment
from stages.study.records.models import read_facts, read_model
from stages.study.records.results import CALIBRATION_COLUMNS, DIVERGED, NOT_RECORDED


@dataclass(frozen=True)
class EvaluatedRun:
    """What evaluation writes about one run.

    Attributes:
        row: of test.csv, with the column `DIVERGED` only if the run diverged.
        labels: that the model predicts for the test images, uint8 or uint16 [n].
        calibration: its rows of calibration.csv.
        environment: its row of environments.csv.
    """

    row: dict[str, Any]
    labels: np.ndarray
    calibration: pd.DataFrame
    environment: dict[str, Any]

    def same_result(self, other: "EvaluatedRun") -> bool:
        """Whether both have the same scores, labels and calibration, as the files keep them."""
        return (
            files.csv_bytes(pd.DataFrame([self.row])) == files.csv_bytes(pd.DataFrame([other.row]))
            and np.array_equal(self.labels, other.labels)
            and files.csv_bytes(self.calibration) == files.csv_bytes(other.calibration)
        )


def evaluate_run(
    folder: Path, recipe: Recipe, seed: int, images: np.ndarray, truth: np.ndarray, evaluation: Environment
) -> tuple[Any, np.ndarray, EvaluatedRun]:
    """Evaluate one run on the test set.

    Args:
        folder: of the run, with model.keras and run.json.
        recipe: that it was trained by.
        seed: that it was trained with.
        images: uint8 [n, height, width] or [n, height, width, 3], of the test set.
        truth: their labels [n].
        evaluation: the environment that evaluates.

    Returns:
        The model, its outputs float32 [n, classes], and what evaluation writes about the run.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    facts = read_facts(folder)
    model = read_model(folder, facts)
    outputs = predict(model, images)
    return model, outputs, evaluated_run(recipe, seed, facts, outputs, truth, evaluation)


def evaluated_run(
    recipe: Recipe, seed: int, facts: dict[str, Any], outputs: np.ndarray, truth: np.ndarray, evaluation: Environment
) -> EvaluatedRun:
    """What evaluation writes about a run with these outputs [n, classes]; `facts` is the content of its run.json."""
    row = {"seed": seed, "key": facts["key"], "data": facts["digests"]["data"]}
    row |= {name: metric(outputs, truth) for name, metric in scores.metrics(recipe.probabilities).items()}
    row |= {name: facts[name] for name in recipe.facts}
    if diverged := facts.get("diverged"):
        row[DIVERGED] = diverged["epoch"]
    no_bins = pd.DataFrame(columns=CALIBRATION_COLUMNS[1:])
    bins = scores.calibration(outputs, truth) if recipe.probabilities else no_bins
    bins.insert(0, "seed", seed)
    environment = {
        "seed": seed,
        "environment": str(environments.of_run(facts)),
        "evaluation": str(evaluation),
        "model": facts["digests"]["model"],
        "processor": facts.get("processor", NOT_RECORDED),
    }
    return EvaluatedRun(row, labels_of(outputs), bins, environment)
