"""Whether two runs are the same, to the bit, and where they differ first."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.evaluate.run import EvaluatedRun
from stages.study import files, paths
from stages.study.results import CALIBRATION_COLUMNS, NOT_RECORDED, read_curves, read_results


@dataclass(frozen=True)
class Outcome:
    """What came of one run, as the files keep it: tables of text.

    Attributes:
        curve: its rows of curves.csv.
        scores: its row of test.csv but the key, or None where it was not evaluated.
        calibration: its rows of calibration.csv, or None.
        labels: the class that it predicts for each test image [n], or None.
        model: the SHA-256 of model.keras, or "not recorded".
    """

    curve: pd.DataFrame
    scores: pd.DataFrame | None
    calibration: pd.DataFrame | None
    labels: np.ndarray | None
    model: str


def recorded(variant: str, seed: int, curve: Sequence[str], model: str) -> Outcome:
    """What metrics/runs has of a run.

    Args:
        variant: its variant.
        seed: its seed.
        curve: the columns of the variant's curves.csv, after the seed.
        model: the SHA-256 of its model, or "not recorded".

    Raises:
        UserError: a file is missing or damaged, or lacks the seed.
    """
    results = read_results(variant)
    if seed not in results.seeds:
        raise UserError(
            f"{paths.scores_path(variant)} should have seed {seed}, found {results.seeds}: restore it with git"
        )
    curves, row = read_curves(variant, curve, results.seeds), results.seeds.index(seed)
    return Outcome(
        as_text(curves[curves["seed"] == seed]),
        as_text(results.scores.iloc[[row]].drop(columns="key")),
        as_text(results.calibration[results.calibration["seed"] == seed]),
        results.predicted[row],
        model,
    )


def outcome(folder: Path, run: EvaluatedRun | None, model: str) -> Outcome:
    """What came of a run that was trained for certify.

    Args:
        folder: of the run.
        run: its evaluation, where it was evaluated.
        model: the SHA-256 of its model.
    """
    curve = as_text(pd.read_csv(folder / "curves.csv"))
    if run is None:
        return Outcome(curve, None, None, None, model)
    scores = as_text(pd.DataFrame([run.row]).drop(columns="key"))
    bins = as_text(run.calibration.reindex(columns=CALIBRATION_COLUMNS))
    return Outcome(curve, scores, bins, run.labels, model)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table as the files have it, a text in every cell."""
    return pd.read_csv(io.BytesIO(files.csv_bytes(table)), dtype=str, keep_default_na=False)


def difference(former: Outcome, here: Outcome, whose: str = "recorded") -> str | None:
    """The first difference between two outcomes, or None. What one of them lacks is not compared.

    Args:
        former: of the run that is there.
        here: of the same run, trained here.
        whose: what to call the values of `former`.
    """
    tables = [("curves.csv", former.curve, here.curve), ("test.csv", former.scores, here.scores)]
    tables.append(("calibration.csv", former.calibration, here.calibration))
    for name, there, now in tables:
        if there is not None and now is not None and (found := _difference(there, now, whose)):
            return f"{name}, {found}"
    if former.labels is not None and here.labels is not None and (found := _labels(former.labels, here.labels, whose)):
        return found
    if NOT_RECORDED not in (former.model, here.model) and former.model != here.model:
        return f"model.keras, SHA-256: {former.model[:12]}… {whose}, {here.model[:12]}… here"
    return None


def _difference(there: pd.DataFrame, now: pd.DataFrame, whose: str) -> str | None:
    if list(there) != list(now):
        return f"columns: {', '.join(there)} {whose}, {', '.join(now)} here"
    for i in range(min(len(there), len(now))):
        for column in there:
            if (old := there[column].iloc[i]) != (new := now[column].iloc[i]):
                place = next((f"{name} {now[name].iloc[i]}, " for name in ("epoch", "bin") if name in now), "")
                place = place or (f"row {i + 1}, " if len(there) > 1 else "")
                return f"{place}{column}: {old or 'empty'} {whose}, {new or 'empty'} here"
    if len(there) != len(now):
        return f"rows: {len(there)} {whose}, {len(now)} here"
    return None


def _labels(there: np.ndarray, now: np.ndarray, whose: str) -> str | None:
    if there.shape != now.shape:
        return f"test images: {len(there)} {whose}, {len(now)} here"
    differing = np.flatnonzero(there != now)
    if not len(differing):
        return None
    first = differing[0]
    return (
        f"label of test image {first}: {there[first]} {whose}, {now[first]} here; {len(differing):,} of {len(now):,} "
        "labels differ"
    )


def same_weights(one: Path, other: Path) -> bool:
    """Whether two Keras archives have the same weights: their other bytes name the version of Keras that wrote them."""
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name], equal_nan=True)
        for name in first
    )


def _weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Keras archive by their names."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(take)
    return found
