"""What the last evaluation of a variant left, so that ten more seeds are ten evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import families, files, records
from stages.errors import StudyError


@dataclass(frozen=True)
class Evaluated:
    """One run on the test set.

    row: of test.csv. labels: what it predicts, uint8 or uint16 [n]. calibration: its rows of calibration.csv.
    """

    row: dict[str, Any]
    labels: np.ndarray
    calibration: pd.DataFrame


def code() -> str:
    """A digest of the code that evaluates."""
    return families.meaning(sorted(Path(__file__).parent.glob("*.py")))


class Former:
    """The rows that are there; none, where they are damaged, of another test set or of another code.

    vote: labels [n] of the voters' mean output. pictures: as `Recipe.pictures` made them, or None.
    voters: how many seeds, from 0, have voted. outputs: float32 [n, classes], their sum, while others may still join.
    """

    def __init__(self, variant: str, truth: np.ndarray) -> None:
        self._variant = variant
        self._rows: dict[int, dict[str, Any]] = {}
        self.vote, self.pictures, self.voters, self.outputs = np.empty(0), None, 0, None
        try:
            table = pd.read_csv(records.scores_path(variant), dtype={"key": str, "data": str})
            arrays = files.read_arrays(records.predictions_path(variant))
            self._calibration = files.read_table(records.calibration_path(variant), records.CALIBRATION_COLUMNS)
            sound = np.array_equal(arrays["truth"], truth) and len(arrays["labels"]) == len(table)
            if sound and str(arrays["code"]) == code():
                self._labels, self.vote, self.pictures = arrays["labels"], arrays["ensemble"], arrays.get("weights")
                self.voters, self.outputs = int(arrays["voters"]), arrays.get("outputs")
                self._rows = {int(row["seed"]): row for row in table.astype(object).to_dict("records")}
        except (OSError, ValueError, KeyError, StudyError):
            return

    def has(self, seed: int) -> bool:
        """Whether this seed was evaluated, with the model that is there now, or with one that is not there any more."""
        if seed not in self._rows:
            return False
        path = records.run_path(self._variant, seed)
        return not path.exists() or records.read_facts(path)["key"] == self._rows[seed]["key"]

    def run(self, seed: int) -> Evaluated:
        bins = self._calibration[self._calibration["seed"] == seed]
        return Evaluated(self._rows[seed], self._labels[list(self._rows).index(seed)], bins)
