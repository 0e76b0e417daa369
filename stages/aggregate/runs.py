"""What the runs of the study left in metrics/runs, read whole or refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.study import files, records
from stages.study.params import Params


@dataclass(frozen=True)
class VariantRuns:
    """All runs of one variant, in the order of its seeds.

    probabilities: whether outputs are probabilities.
    classes: names of the classes.
    truth: labels [images] of the test images.
    predicted: [seeds, images], the class that each seed's model gives each test image.
    ensemble: [images], the class with the highest mean output over the first seeds, its voters.
    scores: test.csv, a row a seed.
    curves: curves.csv.
    calibration: calibration.csv; empty where outputs are no probabilities.
    hardest: indices of the test images that most seeds get wrong, with their pixels uint8 [k, height, width(, 3)].
    weights: float32 [classes, height, width] of the first seed, where the variant is linear in the pixels.
    made_by: environments.csv, a row a seed.
    """

    name: str
    probabilities: bool
    classes: Sequence[str]
    truth: np.ndarray
    predicted: np.ndarray
    ensemble: np.ndarray
    scores: pd.DataFrame
    curves: pd.DataFrame
    calibration: pd.DataFrame
    hardest: np.ndarray
    hardest_images: np.ndarray
    weights: np.ndarray | None
    made_by: pd.DataFrame

    @property
    def seeds(self) -> int:
        return len(self.predicted)

    @property
    def right(self) -> np.ndarray:
        """Whether each seed's model is right about each test image, bool [seeds, images]."""
        return self.predicted == self.truth

    @property
    def accuracy(self) -> np.ndarray:
        """Test accuracy of each seed, float64 [seeds]."""
        return self.right.mean(axis=1)

    @property
    def vote_accuracy(self) -> float:
        return float((self.ensemble == self.truth).mean())

    def score(self, name: str) -> np.ndarray:
        """A column of test.csv, float64 [seeds]; NaN where the variant's runs don't tell it."""
        return self.scores.reindex(columns=[name])[name].to_numpy(float)


Runs = dict[str, VariantRuns]


def shared_seeds(variants: Iterable[VariantRuns]) -> int:
    """How many seeds, counted from the first, all of the variants have."""
    return min(variant.seeds for variant in variants)


def metric_names(runs: Runs) -> list[str]:
    """The columns of test.csv that are scores on the test set, accuracy and loss first."""
    named = dict.fromkeys(["test_accuracy", "test_loss"])
    return list(named | dict.fromkeys(name for of in runs.values() for name in of.scores.filter(regex="^test_")))


def read_runs(study: Params, variants: Iterable[str] | None = None) -> Runs:
    """The runs of these variants, or of every one that params.yaml names.

    Raises:
        UserError: a variant or a seed is missing, or the files of a variant do not belong together.
    """
    runs = {variant: _read_variant(variant, study) for variant in variants or study.variants}
    require_one_test({variant: of.truth for variant, of in runs.items()})
    return runs


def require_one_test(truths: Mapping[str, np.ndarray]) -> None:
    """Raise a UserError where the variants' labels [images] of the test images are not the same."""
    first = next(iter(truths))
    for variant, truth in truths.items():
        if not np.array_equal(truths[first], truth):
            raise UserError(f"{variant} and {first} were evaluated on different test sets: run `dvc repro`")


def read_scores(variant: str, seeds: int) -> pd.DataFrame:
    """The test.csv of a variant, a row for each of its `seeds`.

    Raises:
        UserError: it is missing, is of other seeds, or has a score that is no number.
    """
    scores = records.read_scores(variant)
    _require_seeds(str(records.scores_path(variant)), scores["seed"].tolist(), range(seeds))
    if not np.isfinite(scores.filter(like="test_").apply(pd.to_numeric, errors="coerce")).all(axis=None):
        raise UserError(f"{records.scores_path(variant)} holds a score that is no number: run `dvc repro`")
    return scores


def _read_variant(variant: str, study: Params) -> VariantRuns:
    recipe = study.recipe(variant)
    scores = read_scores(variant, recipe.seeds)
    curves = files.read_table(records.curves_path(variant), ["seed", *recipe.curve])
    _require_seeds(str(records.curves_path(variant)), curves["seed"].unique().tolist(), range(recipe.seeds))
    arrays = files.read_arrays(records.predictions_path(variant))
    classes = arrays.get("classes", np.arange(arrays["truth"].max() + 1))
    runs = VariantRuns(
        name=variant,
        probabilities=recipe.probabilities,
        classes=[str(name) for name in classes],
        truth=arrays["truth"],
        predicted=arrays["labels"],
        ensemble=arrays["ensemble"],
        scores=scores,
        curves=curves,
        calibration=files.read_table(records.calibration_path(variant), records.CALIBRATION_COLUMNS),
        hardest=arrays["hardest"],
        hardest_images=arrays["hardest_images"],
        weights=arrays.get("weights"),
        made_by=_read_environments(variant, recipe.seeds),
    )
    if runs.seeds != len(scores) or not np.allclose(runs.accuracy, scores["test_accuracy"], atol=1e-6):
        raise UserError(
            f"{records.predictions_path(variant)} and {records.scores_path(variant)} tell of different runs: "
            f"run `dvc repro evaluate@{variant}`"
        )
    return runs


def _read_environments(variant: str, seeds: int) -> pd.DataFrame:
    made_by = records.read_environments(variant)
    _require_seeds(str(records.environments_path(variant)), made_by["seed"].tolist(), range(seeds))
    return made_by


def _require_seeds(source: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    if missing := sorted(set(wanted) - set(found)):
        raise UserError(f"{source} lacks the seeds {missing} that params.yaml names: run `dvc repro`")
    if list(found) != list(wanted):
        raise UserError(
            f"{source} should have the seeds {list(wanted)} in this order, found {list(found)}: run `dvc repro`"
        )
