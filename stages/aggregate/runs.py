"""What the runs of the study left in metrics/runs, read whole or refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages import files, records
from stages.errors import StudyError
from stages.params import Network, Params


@dataclass(frozen=True)
class Predictions:
    """What the runs of one variant say about the test images: all that a comparison needs.

    predicted: uint8 [seeds, images], the class that each seed's model gives each test image.
    truth: uint8 [images].
    """

    name: str
    predicted: np.ndarray
    truth: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each seed's model is right about each test image, bool [seeds, images]."""
        return self.predicted == self.truth

    @property
    def accuracy(self) -> np.ndarray:
        """Test accuracy of each seed, float64 [seeds]."""
        return self.right.mean(axis=1)


@dataclass(frozen=True)
class VariantRuns(Predictions):
    """All runs of one variant, in the order of the seeds in params.yaml.

    scores: test.csv, a row a seed.
    curves: curves.csv.
    calibration: calibration.csv; empty where outputs are no probabilities.
    ensemble: uint8 [images], the class with the highest mean output over the seeds.
    hardest: indices of the test images that most seeds get wrong, with their pixels uint8 [k, 28, 28].
    weights: float32 [10, 28, 28] of the first seed, where the variant is linear in the pixels.
    """

    is_network: bool
    scores: pd.DataFrame
    curves: pd.DataFrame
    calibration: pd.DataFrame
    ensemble: np.ndarray
    hardest: np.ndarray
    hardest_images: np.ndarray
    weights: np.ndarray | None

    @property
    def ensemble_accuracy(self) -> float:
        return float((self.ensemble == self.truth).mean())


def read_runs(study: Params) -> dict[str, VariantRuns]:
    """The runs of every variant that params.yaml names.

    Raises:
        StudyError: a variant or a seed is missing, or the files of a variant do not belong together.
    """
    runs = {variant: _read_variant(variant, study) for variant in study.variants}
    first = next(iter(runs.values()))
    for variant, others in runs.items():
        if not np.array_equal(first.truth, others.truth):
            raise StudyError(f"{variant} and {first.name} were evaluated on different test sets: run `dvc repro`")
    return runs


def _read_variant(variant: str, study: Params) -> VariantRuns:
    is_network = isinstance(study.recipe(variant), Network)
    curves = files.read_table(
        records.curves_path(variant), records.CURVE_COLUMNS if is_network else records.SEARCH_COLUMNS
    )
    scores = files.read_table(records.scores_path(variant), records.TEST_COLUMNS)
    for path, table in ((records.scores_path(variant), scores), (records.curves_path(variant), curves)):
        _require_seeds(str(path), table["seed"].unique().tolist(), study.seeds)
    if not np.isfinite(scores[["test_loss", "test_accuracy"]].to_numpy(float)).all():
        raise StudyError(f"{records.scores_path(variant)} holds a score that is no number: run `dvc repro`")
    arrays = files.read_arrays(records.predictions_path(variant))
    runs = VariantRuns(
        name=variant,
        is_network=is_network,
        scores=scores,
        curves=curves,
        calibration=files.read_table(records.calibration_path(variant), records.CALIBRATION_COLUMNS),
        predicted=arrays["labels"],
        ensemble=arrays["ensemble"],
        truth=arrays["truth"],
        hardest=arrays["hardest"],
        hardest_images=arrays["hardest_images"],
        weights=arrays.get("weights"),
    )
    if len(runs.predicted) != len(scores) or not np.allclose(runs.accuracy, scores["test_accuracy"], atol=1e-6):
        raise StudyError(
            f"{records.predictions_path(variant)} and {records.scores_path(variant)} tell of different runs: "
            f"run `dvc repro evaluate@{variant}`"
        )
    return runs


def _require_seeds(source: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    if missing := sorted(set(wanted) - set(found)):
        raise StudyError(f"{source} lacks the seeds {missing} that params.yaml names: run `dvc repro`")
    if list(found) != list(wanted):
        raise StudyError(
            f"{source} should have the seeds {list(wanted)} in this order, found {list(found)}: run `dvc repro`"
        )
