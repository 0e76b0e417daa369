"""Outcomes of runs, and the first difference between two of them."""

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
from stages.study.records.results import CALIBRATION_COLUMNS, DIVERGED, NOT_RECORDED, read_curves, read_results


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: tables with the text of the files, labels and model.

    Attributes:
        curve: its rows of curves.csv.
        scores: its row of test.csv without the key, or None if it was not evaluated.
        calibration: its rows of calibration.csv, or None.
        labels: the predicted class of each test image [images], or None.
        model: the SHA-256 of model.keras, or "not recorded".
    """

    curve: pd.DataFrame
    scores: pd.DataFrame | None
    calibration: pd.DataFrame | None
    labels: np.ndarray | None
    model: str


def recorded_outcome(variant: str, seed: int, curve: Sequence[str], model: str) -> Outcome:
    """The outcome of a run that is recorded in metrics/runs.

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
    # Another run may be the reason for the column.
    unused = ["key"] if results.diverged[row] else ["key", DIVERGED]
    return Outcome(
        as_text(curves[curves["seed"] == seed]),
        as_text(results.scores.iloc[[row]].drop(columns=unused, errors="ignore")),
        as_text(results.calibration[results.calibration["seed"] == seed]),
        results.predicted[row],
        model,
    )


def retrained_outcome(folder: Path, run: EvaluatedRun | None, model: str) -> Outcome:
    """The outcome of a run that was trained again.

    Args:
        folder: of the run.
        run: its evaluation, or None if it was not evaluated.
        model: the SHA-256 of its model.
    """
    curve = as_text(pd.read_csv(folder / "curves.csv"))
    if run is None:
        return Outcome(curve, None, None, None, model)
    scores = as_text(pd.DataFrame([run.row]).drop(columns="key"))
    bins = as_text(run.calibration.reindex(columns=CALIBRATION_COLUMNS))
    return Outcome(curve, scores, bins, run.labels, model)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the text of the CSV file in every cell."""
    return pd.read_csv(io.BytesIO(files.csv_bytes(table)), dtype=str, keep_default_na=False)


def difference(former: Outcome, here: Outcome, origin: str = "recorded") -> str | None:
    """The first difference between two outcomes, or None. What one of them lacks is not compared.

    Args:
        former: the earlier outcome of the run.
        here: the outcome of the same run, retrained here.
        origin: what texts call the values of `former`.
    """
    tables = [
        ("curves.csv", former.curve, here.curve),
        ("test.csv", former.scores, here.scores),
        ("calibration.csv", former.calibration, here.calibration),
    ]
    for name, before, now in tables:
        if before is not None and now is not None and (found := _table_difference(before, now, origin)):
            return f"{name}, {found}"
    return _label_difference(former.labels, here.labels, origin) or _model_difference(former.model, here.model, origin)


def _table_difference(before: pd.DataFrame, now: pd.DataFrame, origin: str) -> str | None:
    if list(before) != list(now):
        return f"columns: {', '.join(before)} {origin}, {', '.join(now)} here"
    rows = min(len(before), len(now))
    differs = before.iloc[:rows].to_numpy() != now.iloc[:rows].to_numpy()
    if differs.any():
        row, column = np.argwhere(differs)[0]
        values = before.iloc[row, column] or "empty", now.iloc[row, column] or "empty"
        return f"{_place(now, row)}{now.columns[column]}: {values[0]} {origin}, {values[1]} here"
    if len(before) != len(now):
        return f"rows: {len(before)} {origin}, {len(now)} here"
    return None


def _place(table: pd.DataFrame, row: int) -> str:
    """A row as text: its epoch or bin, or its number; "" for the only row."""
    for name in ("epoch", "bin"):
        if name in table:
            return f"{name} {table[name].iloc[row]}, "
    return f"row {row + 1}, " if len(table) > 1 else ""


def _label_difference(before: np.ndarray | None, now: np.ndarray | None, origin: str) -> str | None:
    if before is None or now is None:
        return None
    if before.shape != now.shape:
        return f"test images: {len(before)} {origin}, {len(now)} here"
    differing = np.flatnonzero(before != now)
    if not len(differing):
        return None
    first = differing[0]
    return (
        f"label of test image {first}: {before[first]} {origin}, {now[first]} here; {len(differing):,} of {len(now):,} "
        "labels differ"
    )


def _model_difference(before: str, now: str, origin: str) -> str | None:
    if NOT_RECORDED in (before, now) or before == now:
        return None
    return f"model.keras, SHA-256: {before[:12]}… {origin}, {now[:12]}… here"


def same_weights(one: Path, other: Path) -> bool:
    """Whether two Keras archives have the same weights; other parts of them depend on the version of Keras."""
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name], equal_nan=True)
        for name in first
    )


def _weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Keras archive, by name."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(take)
    return found
