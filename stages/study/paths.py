"""Where a study's files lie."""

from pathlib import Path

RAW = Path("data/raw")
TRAIN = Path("data/train.npz")
TEST = Path("data/test.npz")
DEV = Path("data/dev.npz")
MODELS = Path("models")
DATA = Path("metrics/data.json")
RUNS = Path("metrics/runs")
COMPARISONS = Path("metrics/comparisons.csv")
SEEN = Path("metrics/seen.json")
SUMMARY = Path("metrics/summary.json")
ACCURACY = Path("metrics/accuracy.json")
TABLES = Path("metrics/tables")
PLOTS = Path("metrics/plots")
REPORT = Path("metrics/report.html")
CHAMPION = Path("metrics/champion.json")


def run_path(variant: str, seed: int, folder: Path = MODELS) -> Path:
    """The folder of a trained run: model.keras, curves.csv and run.json."""
    return folder / variant / str(seed)


def curves_path(variant: str) -> Path:
    return RUNS / variant / "curves.csv"


def scores_path(variant: str) -> Path:
    return RUNS / variant / "test.csv"


def calibration_path(variant: str) -> Path:
    return RUNS / variant / "calibration.csv"


def predictions_path(variant: str) -> Path:
    return RUNS / variant / "predictions.npz"


def environments_path(variant: str) -> Path:
    return RUNS / variant / "environments.csv"


def result_paths(variant: str) -> list[Path]:
    """All files of a variant's results."""
    named = (scores_path, predictions_path, calibration_path, environments_path, curves_path)
    return [path(variant) for path in named]
