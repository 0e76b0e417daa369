"""What the last evaluation of a variant left, so that ten more seeds are ten evaluations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.study import environments, files, records
from stages.study.environments import Environment, canonical


@dataclass(frozen=True)
class Evaluated:
    """One run on the test set.

    Attributes:
        row: of test.csv.
        labels: what it predicts, uint8 or uint16 [n].
        calibration: its rows of calibration.csv.
        made_by: its row of environments.csv.
    """

    row: dict[str, Any]
    labels: np.ndarray
    calibration: pd.DataFrame
    made_by: dict[str, Any]

    def same(self, other: "Evaluated") -> bool:
        """Whether both have the same scores, labels and calibration, as the files keep them."""
        return (
            self._texts() == other._texts()
            and np.array_equal(self.labels, other.labels)
            and files.csv_bytes(self.calibration) == files.csv_bytes(other.calibration)
        )

    def _texts(self) -> bytes:
        return files.csv_bytes(pd.DataFrame([self.row]))


class Former:
    """The rows that are there: none, where they are damaged or of another test set, and none of another evaluation.

    vote: labels [n] of the voters' mean output. class_images: as `Recipe.class_images` made them, or None.
    voters: how many seeds, from 0, have voted. outputs: float32 [n, classes], their sum, while others may still join.
    """

    def __init__(self, variant: str, truth: np.ndarray, evaluation: Environment) -> None:
        self._variant = variant
        self._rows: dict[int, dict[str, Any]] = {}
        self.vote, self.class_images, self.voters, self.outputs = np.empty(0), None, 0, None
        try:
            table = pd.read_csv(records.scores_path(variant), dtype={"key": str, "data": str})
            arrays = files.read_arrays(records.predictions_path(variant))
            self._calibration = files.read_table(records.calibration_path(variant), records.CALIBRATION_COLUMNS)
            made_by = records.read_environments(variant)
            sound = np.array_equal(arrays["truth"], truth) and len(arrays["labels"]) == len(table)
            if sound and made_by["seed"].tolist() == table["seed"].tolist():
                same = _evaluated_as(variant, made_by, evaluation)
                self._labels, self.vote, self.class_images = arrays["labels"], arrays["ensemble"], arrays.get("weights")
                self.voters, self.outputs = int(arrays["voters"]), arrays.get("outputs")
                self._order = table["seed"].tolist()
                self._made_by = {int(row["seed"]): row for row in made_by.astype(object).to_dict("records")}
                rows = {int(row["seed"]): row for row in table.astype(object).to_dict("records")}
                self._rows = {seed: row for seed, row in rows.items() if seed in same}
        except (OSError, ValueError, KeyError, UserError):
            return

    def has(self, seed: int) -> bool:
        """Whether this seed was evaluated, with the model that is there now, or with one that is not there any more."""
        if seed not in self._rows:
            return False
        path = records.run_path(self._variant, seed)
        if not path.exists():
            return True
        facts, made_by = records.read_facts(path), self._made_by[seed]
        return facts["key"] == self._rows[seed]["key"] and facts["digests"].get("model") == made_by["model"]

    def may_have(self, seed: int) -> bool:
        """Whether this seed was evaluated with a run of the same key, of whose model no digest was recorded."""
        if seed not in self._rows or self._made_by[seed]["model"] != records.NOT_RECORDED:
            return False
        path = records.run_path(self._variant, seed)
        return path.exists() and records.read_facts(path)["key"] == self._rows[seed]["key"]

    def run(self, seed: int) -> Evaluated:
        bins = self._calibration[self._calibration["seed"] == seed]
        return Evaluated(self._rows[seed], self._labels[self._order.index(seed)], bins, self._made_by[seed])

    def confirm(self, seed: int, run: Evaluated) -> None:
        """Take `run`, just evaluated, as this seed's, where it is what was evaluated before: its model is now known."""
        if self.run(seed).same(run):
            self._made_by[seed] = run.made_by


def _evaluated_as(variant: str, made_by: pd.DataFrame, evaluation: Environment) -> set[int]:
    """The seeds that were evaluated in an environment with the same bits as `evaluation`."""
    certificates = environments.read_certificates()
    wanted = canonical(variant, "evaluate", evaluation, certificates)
    found = {
        text: canonical(variant, "evaluate", Environment.parse(text), certificates)
        for text in made_by["evaluation"].unique()
    }
    return {
        int(seed) for seed, text in zip(made_by["seed"], made_by["evaluation"], strict=True) if found[text] == wanted
    }
