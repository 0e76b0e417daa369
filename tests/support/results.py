"""Synthetic or modified results of a variant."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stages.study.records.results import CALIBRATION_COLUMNS, VariantResults, read_results, write_results


def results(variant: str, *, environments: pd.DataFrame, **fields: Any) -> VariantResults:
    """Results on two test images of two classes, with correct predictions only.

    Args:
        variant: its name.
        environments: environments.csv, with a row for each seed.
        **fields: fields of `VariantResults` to replace.
    """
    seeds, truth = len(environments), np.array([0, 1], np.uint8)
    scores = pd.DataFrame(
        {"seed": environments["seed"], "key": "k", "data": "d", "test_loss": 0.1, "test_accuracy": 1.0}
    )
    defaults: dict[str, Any] = {
        "scores": scores,
        "predicted": np.tile(truth, (seeds, 1)),
        "truth": truth,
        "calibration": pd.DataFrame(columns=CALIBRATION_COLUMNS),
        "classes": ["a", "b"],
        "ensemble": truth,
        "members": min(seeds, 10),
        "output_sum": None,
        "hardest": np.arange(2, dtype=np.uint16),
        "hardest_images": np.zeros((2, 8, 8), np.uint8),
        "weights": None,
    }
    return VariantResults(variant=variant, environments=environments, **(defaults | fields))


def write_accuracy(variant: str, accuracy: Sequence[float]) -> None:
    """Change the results of a variant so that its seeds have these accuracies."""
    old = read_results(variant)
    images, classes = len(old.truth), len(old.classes)
    right = [np.arange(images) < round(value * images) for value in accuracy]
    predicted = np.where(right, old.truth, (old.truth + 1) % classes).astype(old.predicted.dtype)
    write_results(replace(old, predicted=predicted, scores=old.scores.assign(test_accuracy=accuracy)))
