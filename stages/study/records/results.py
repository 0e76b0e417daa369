"""The results of a variant: the files of metrics/runs/<variant>/, read and checked together, and how they are written.

Training writes curves.csv; evaluation writes test.csv, predictions.npz, calibration.csv and environments.csv.
"""

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.study import files, paths

# Of test.csv; the scores of stages/evaluate and the facts of the recipe follow.
RUN_COLUMNS = ["seed", "key", "data"]
# The last column of test.csv, only if a run of the variant diverged: the epoch in which it did, blank for other runs.
DIVERGED = "diverged"
CALIBRATION_COLUMNS = ["seed", "bin", "images", "confidence", "accuracy"]
# environment: that trained the run. evaluation: that evaluated it. model: the SHA-256 of model.keras.
ENVIRONMENT_COLUMNS = ["seed", "environment", "evaluation", "model", "processor"]
MEMBERS = 10  # of the ensemble, which has the first seeds: a number that later seeds don't change
NOT_RECORDED = "not recorded"  # in place of a model's digest, or of a processor

Load = Callable[[Path], bytes | None]  # the content of a file, or None where there is none


@dataclass(frozen=True)
class EvaluatedRuns:
    """The evaluated runs of a variant: what every version of the files has. Rows are seeds, in the order of test.csv.

    Attributes:
        variant: its name.
        scores: test.csv, a row for each seed.
        predicted: labels [seeds, images] that each seed's model predicts for the test images.
        truth: their labels [images].
        environments: environments.csv, a row for each seed; None in results of version 1.
        groups: the group of each test image, such as its writer, int [images]; None if images are independent.
        image_digest: the SHA-256 of the pixels of the test images; None in files of an earlier version.
    """

    variant: str
    scores: pd.DataFrame
    predicted: np.ndarray
    truth: np.ndarray
    environments: pd.DataFrame | None
    groups: np.ndarray | None = field(default=None, kw_only=True)
    image_digest: str | None = field(default=None, kw_only=True)

    @property
    def seeds(self) -> list[int]:
        return [int(seed) for seed in self.scores["seed"]]

    @property
    def keys(self) -> list[str]:
        return self.scores["key"].tolist()

    @property
    def data(self) -> list[str]:
        """The digest of each run's training data."""
        return self.scores["data"].tolist()

    @property
    def correct(self) -> np.ndarray:
        """Whether each seed's prediction of each test image is correct, bool [seeds, images]."""
        return self.predicted == self.truth

    @property
    def accuracy(self) -> np.ndarray:
        """Test accuracy of each seed, float64 [seeds]."""
        return self.correct.mean(axis=1)

    @property
    def diverged(self) -> np.ndarray:
        """Whether each seed's training diverged, so that the seed counts as one that predicts the largest class."""
        return ~np.isnan(self.score(DIVERGED))

    @property
    def predicts_one_class(self) -> np.ndarray:
        """Whether each seed predicts the same class for all test images, which are of several, bool [seeds].

        Not of a diverged one, which has no trained model.
        """
        several = len(self.truth) > 0 and bool((self.truth != self.truth[0]).any())
        return (self.predicted == self.predicted[:, :1]).all(axis=1) & several & ~self.diverged

    def same_test_set(self, other: "EvaluatedRuns") -> bool:
        """Whether both are of the same test images; if a digest of the pixels is missing, whether their labels are."""
        known = None not in (self.image_digest, other.image_digest)
        return np.array_equal(self.truth, other.truth) and (not known or self.image_digest == other.image_digest)

    def score(self, name: str) -> np.ndarray:
        """A column of test.csv, float64 [seeds]; NaN where the variant's runs don't have it."""
        return self.scores.reindex(columns=[name])[name].to_numpy(float)

    def select(self, seeds: Sequence[int]) -> Self:
        """The scores, predictions and environments of `seeds`, in that order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        environments = None if self.environments is None else self.environments.iloc[rows]
        return replace(self, scores=self.scores.iloc[rows], predicted=self.predicted[rows], environments=environments)


@dataclass(frozen=True)
class VariantResults(EvaluatedRuns):
    """Everything that evaluation wrote about a variant.

    Attributes:
        environments: environments.csv, a row for each seed.
        calibration: calibration.csv; empty where outputs are not probabilities.
        classes: the names of the classes.
        ensemble: labels [images] of the highest mean output over the first seeds.
        members: how many seeds the ensemble has.
        output_sum: float32 [images, classes], the sum of the members' outputs while later seeds can still join; else
            None.
        hardest: indices of the test images that most seeds get wrong.
        hardest_images: their pixels, uint8 [k, height, width] or [k, height, width, 3].
        weights: float32 [classes, height, width] of the first seed, where the model is linear in the pixels; else None.
    """

    environments: pd.DataFrame
    calibration: pd.DataFrame
    classes: list[str]
    ensemble: np.ndarray
    members: int
    output_sum: np.ndarray | None
    hardest: np.ndarray
    hardest_images: np.ndarray
    weights: np.ndarray | None

    @property
    def ensemble_accuracy(self) -> float:
        return float((self.ensemble == self.truth).mean())

    def is_of(self, images: np.ndarray, truth: np.ndarray) -> bool:
        """Whether the results are of these test images; without a digest, the pixels of the hardest ones tell.

        Args:
            images: uint8 [n, height, width] or [n, height, width, 3].
            truth: their labels [n].
        """
        if not np.array_equal(self.truth, truth):
            return False
        if self.image_digest is None:
            return np.array_equal(self.hardest_images, images[self.hardest])
        return self.image_digest == files.digest(images)


def diverged_sentence(runs: EvaluatedRuns, from_seed: int = 0) -> str:
    """The name of a variant with `describe_diverged`; empty if no run diverged."""
    description = describe_diverged(runs, from_seed)
    return description and f"{runs.variant}: {description}"


def describe_diverged(runs: EvaluatedRuns, from_seed: int = 0) -> str:
    """How many runs of a variant diverged, with their seeds from `from_seed` on; empty if none did."""
    counts = {seed: diverged for seed, diverged in zip(runs.seeds, runs.diverged, strict=True) if seed >= from_seed}
    seeds = [seed for seed, diverged in counts.items() if diverged]
    if not seeds:
        return ""
    counted = "it counts as a run that predicts" if len(seeds) == 1 else "they count as runs that predict"
    return (
        f"{len(seeds)} of {len(counts)} runs diverged (seed{'' if len(seeds) == 1 else 's'} "
        f"{listed(seeds)}); {counted} the largest class"
    )


def ensemble_members(seeds: int) -> int:
    """How many members the ensemble of a variant with `seeds` seeds has."""
    return min(MEMBERS, seeds)


def load_file(path: Path) -> bytes | None:
    """The content of a file of the working tree."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def read_results(variant: str) -> VariantResults:
    """The results of a variant in the working tree.

    Raises:
        UserError: a file is missing or damaged, or the files do not belong together.
    """
    found = find_results(variant)
    if found is None:
        raise UserError(f"{paths.scores_path(variant)} is missing: run `dvc repro`")
    return found


def find_results(variant: str, folder: Path | None = None) -> VariantResults | None:
    """The results of a variant, or None where it was never evaluated.

    Args:
        variant: its name.
        folder: where its files lie, if not in metrics/runs/<variant>.

    Raises:
        UserError: a file is missing or damaged, the files do not belong together, or the ensemble has other members
            than `MEMBERS` asks for.
    """
    load = load_file if folder is None else lambda path: load_file(folder / path.name)
    arrays = _arrays(variant, load)
    evaluated = _evaluated_runs(variant, load, "", arrays)
    if evaluated is None:
        return None
    if evaluated.environments is None:
        raise UserError(
            f"{paths.environments_path(variant)} is missing: `python -m tools.migrate` writes it for results of "
            f"version 1, `dvc repro evaluate@{variant}` for models that are here"
        )
    _check_members(variant, len(evaluated.seeds), arrays)
    path = paths.calibration_path(variant)
    calibration = _table(path, load, "", CALIBRATION_COLUMNS)
    if calibration is None:
        raise UserError(f"{path} is missing: restore it with git, or run `dvc repro evaluate@{variant}`")
    if not set(calibration["seed"]) <= set(evaluated.seeds):
        raise _different_runs(variant, paths.scores_path(variant), path, "")
    try:
        return VariantResults(
            variant=variant,
            scores=evaluated.scores,
            predicted=evaluated.predicted,
            truth=evaluated.truth,
            environments=evaluated.environments,
            groups=evaluated.groups,
            image_digest=evaluated.image_digest,
            calibration=calibration,
            classes=[str(name) for name in arrays["classes"]],
            ensemble=arrays["ensemble"],
            members=int(arrays["voters"]),
            output_sum=arrays.get("outputs"),
            hardest=arrays["hardest"],
            hardest_images=arrays["hardest_images"],
            weights=arrays.get("weights"),
        )
    except KeyError as error:
        raise UserError(
            f"{paths.predictions_path(variant)} should have the array {error}, found {', '.join(arrays)}: restore it "
            f"with git, or run `dvc repro evaluate@{variant}`"
        ) from None


def find_evaluated_runs(variant: str, load: Load = load_file, where: str = "") -> EvaluatedRuns | None:
    """The scores, predictions and environments of a variant, which files of any version have; None without them.

    Args:
        variant: its name.
        load: reads a file, of the working tree or of a commit.
        where: what errors add to a path, such as " in main".

    Raises:
        UserError: a file is missing or damaged, or the files do not belong together.
    """
    names = ("labels", "truth", "groups", "image_digest")
    return _evaluated_runs(variant, load, where, _arrays(variant, load, where, names))


def _evaluated_runs(variant: str, load: Load, where: str, arrays: dict[str, np.ndarray]) -> EvaluatedRuns | None:
    """The same, with the arrays of predictions.npz: reading them takes longer than all other files."""
    scores_path, predictions_path = paths.scores_path(variant), paths.predictions_path(variant)
    scores = _table(scores_path, load, where, [*RUN_COLUMNS, "test_accuracy"], more=True, text=["key", "data"])
    if scores is None and not arrays:
        return None
    if scores is None or not arrays:
        there, lacking = (predictions_path, scores_path) if scores is None else (scores_path, predictions_path)
        raise UserError(
            f"{there}{where} is there but not {lacking}, which belongs to it: restore both with git, or run `dvc repro "
            f"evaluate@{variant}`"
        )
    if missing := {"labels", "truth"} - arrays.keys():
        raise UserError(
            f"{predictions_path}{where} should have the arrays labels and truth, as this version of the study writes "
            f"them; {' and '.join(sorted(missing))} missing"
        )
    environments_path = paths.environments_path(variant)
    environments = _table(environments_path, load, where, ENVIRONMENT_COLUMNS, text=ENVIRONMENT_COLUMNS[1:])
    runs = EvaluatedRuns(
        variant,
        scores,
        arrays["labels"],
        arrays["truth"],
        environments,
        groups=arrays.get("groups"),
        image_digest=str(arrays["image_digest"]) if "image_digest" in arrays else None,
    )
    _check_runs(runs, where)
    return runs


def _check_runs(runs: EvaluatedRuns, where: str) -> None:
    """Raise a UserError where the files of a variant have other seeds than one another, or other scores."""
    variant, seeds = runs.variant, runs.scores["seed"].tolist()
    scores_path = paths.scores_path(variant)
    if runs.environments is not None and runs.environments["seed"].tolist() != seeds:
        raise _different_runs(variant, scores_path, paths.environments_path(variant), where)
    numbers = runs.scores.filter(like="test_")
    if not (all(map(is_numeric_dtype, numbers.dtypes)) and np.isfinite(numbers.to_numpy(float)).all()):
        raise UserError(f"{scores_path}{where} has a score that is not a number: restore it with git")
    same_shape = runs.predicted.shape == (len(set(seeds)), *runs.truth.shape) and len(seeds) == len(runs.predicted)
    if not same_shape or not np.allclose(runs.accuracy, numbers["test_accuracy"], atol=1e-6):
        raise _different_runs(variant, scores_path, paths.predictions_path(variant), where)
    groups = runs.groups
    if groups is not None and (groups.shape != runs.truth.shape or groups.dtype.kind not in "iu"):
        raise UserError(
            f"{paths.predictions_path(variant)}{where} should have groups as whole numbers "
            f"{list(runs.truth.shape)}, one for each test image, received {groups.dtype} {list(groups.shape)}: restore "
            f"it with git, or run `dvc repro evaluate@{variant}`"
        )


def _check_members(variant: str, seeds: int, arrays: dict[str, np.ndarray]) -> None:
    """Raise a UserError where the ensemble has other members than `MEMBERS`, whose edit makes nothing stale."""
    expected, found = ensemble_members(seeds), arrays.get("voters")
    if found is not None and int(found) != expected:
        raise UserError(
            f"{paths.predictions_path(variant)} has the ensemble of the first {int(found)} seeds, but MEMBERS in "
            f"stages/study/records/results.py asks for {expected}: `dvc repro --force --single-item "
            f"evaluate@{variant}` evaluates again, which needs the models (`dvc pull`)"
        )


def _different_runs(variant: str, one: Path, other: Path, where: str) -> UserError:
    return UserError(
        f"{one} and {other}{where} are of different runs: restore both with git, or run `dvc repro evaluate@{variant}`"
    )


def read_curves(
    variant: str, columns: Sequence[str], seeds: Sequence[int] | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """The curves.csv of a variant, or of one of its runs.

    Args:
        variant: its name.
        columns: of the recipe's curve, which follow the seed.
        seeds: that it should have, in this order; None: any.
        folder: where it lies, if not in metrics/runs/<variant>.

    Raises:
        UserError: the file is missing, is damaged, or has other columns or seeds.
    """
    path = paths.curves_path(variant) if folder is None else folder / paths.curves_path(variant).name
    curves = files.read_table(path, ["seed", *columns])
    if seeds is not None:
        check_seeds(path, curves["seed"].unique().tolist(), seeds)
    return curves


def check_seeds(source: Path, found: Sequence[int], expected: Sequence[int]) -> None:
    """Raise a UserError where a file has other seeds than expected, or has them in another order."""
    if missing := sorted(set(expected) - set(found)):
        raise UserError(f"{source} lacks the seeds {missing}: run `dvc repro`")
    if list(found) != list(expected):
        raise UserError(
            f"{source} should have the seeds {list(expected)} in this order, found {list(found)}: run `dvc repro`"
        )


def write_results(results: VariantResults) -> None:
    """Write the files of a variant that evaluation writes.

    A file that has the arrays stays as it is, also without the digest of the images, which earlier versions did not
    write: with other bytes, DVC would ask for the models to evaluate again.
    """
    arrays: dict[str, Any] = {
        "labels": results.predicted,
        "truth": results.truth,
        "classes": np.array(results.classes),
        "hardest": results.hardest,
        "hardest_images": results.hardest_images,
        "ensemble": results.ensemble,
        "voters": np.array(results.members),
        "outputs": results.output_sum,
        "weights": results.weights,
        "groups": results.groups,
        "image_digest": None if results.image_digest is None else np.array(results.image_digest),
    }
    if not _are_written(results.variant, arrays):
        there = {name: array for name, array in arrays.items() if array is not None}
        files.write_arrays(paths.predictions_path(results.variant), compressed=True, **there)
    files.write_table(paths.calibration_path(results.variant), results.calibration)
    files.write_table(paths.environments_path(results.variant), results.environments)
    files.write_table(paths.scores_path(results.variant), results.scores)


def _are_written(variant: str, arrays: dict[str, Any]) -> bool:
    """Whether predictions.npz has these arrays, and none of those that are None. Others are of earlier versions."""
    try:
        found = _arrays(variant, load_file)
    except UserError:  # damaged
        return False
    required = [name for name in arrays if name != "image_digest" or name in found]
    return bool(found) and all(_same(found.get(name), arrays[name]) for name in required)


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def _arrays(variant: str, load: Load, where: str = "", names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz that have these names, by default all; none where there is no such file."""
    path = paths.predictions_path(variant)
    content = load(path)
    with files.damage_reported(f"{path}{where}", _remedy(path, where)):
        return {} if content is None else dict(_unpacked(content, names))


@functools.lru_cache(maxsize=32)  # commands ask several times; two commits have the files of most variants in common
def _unpacked(content: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, not to be changed."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if not names or name in names}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _table(
    path: Path, load: Load, where: str, columns: list[str], *, more: bool = False, text: Sequence[str] = ()
) -> pd.DataFrame | None:
    content = load(path)
    if content is None:
        return None
    remedy = _remedy(path, where)
    return files.parse_table(io.BytesIO(content), f"{path}{where}", columns, more=more, text=text, remedy=remedy)


def _remedy(path: Path, where: str) -> str:
    """What to do about a damaged file of a variant; `make compare` reads it where DVC may not write it."""
    other = "name another commit" if where else f"run `dvc repro evaluate@{path.parent.name}`"
    return f"restore it with git, or {other}"
