"""Where the files lie that stages hand to one another, and their columns."""

from pathlib import Path
from typing import Any

import numpy as np

from stages import files
from stages.errors import StudyError
from stages.terminal import native_stderr_hidden

RAW = Path("data/raw")
TRAIN = Path("data/train.npz")
TEST = Path("data/test.npz")
DEV = Path("data/dev")
MODELS = Path("models")
RUNS = Path("metrics/runs")
SUMMARY = Path("metrics/summary.json")
ACCURACY = Path("metrics/accuracy.json")
TABLES = Path("metrics/tables")
PLOTS = Path("metrics/plots")
REPORT = Path("metrics/report.html")
CHAMPION = Path("metrics/champion.json")

RAW_FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}

CURVE_COLUMNS = ["seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
# A closed-form variant has no epochs: its curve is the search for alpha, a row for each value tried.
SEARCH_COLUMNS = ["seed", "search", "alpha", "val_loss", "val_accuracy"]
TEST_COLUMNS = [
    *("seed", "key", "data", "test_loss", "test_accuracy", "dev_loss", "dev_accuracy", "epochs", "best_epoch"),
    *("alpha_mse", "alpha_accuracy"),
]
CALIBRATION_COLUMNS = ["seed", "bin", "images", "confidence", "accuracy"]


def dev_path(seed: int) -> Path:
    return DEV / f"{seed}.npy"


def run_path(variant: str, seed: int) -> Path:
    return MODELS / variant / str(seed)


def curves_path(variant: str) -> Path:
    return RUNS / variant / "curves.csv"


def scores_path(variant: str) -> Path:
    return RUNS / variant / "test.csv"


def calibration_path(variant: str) -> Path:
    return RUNS / variant / "calibration.csv"


def predictions_path(variant: str) -> Path:
    return RUNS / variant / "predictions.npz"


RUN_FILES = {path("").name for path in (curves_path, scores_path, calibration_path, predictions_path)}


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 28, 28] and labels uint8 [n] of data/train.npz or data/test.npz."""
    arrays = files.read_arrays(path)
    return arrays["images"], arrays["labels"]


def read_facts(run: Path) -> dict[str, Any]:
    """What run.json in the folder of a run says.

    Raises:
        StudyError: the file is missing or damaged.
    """
    path = run / "run.json"
    if not path.exists():
        raise StudyError(f"{path} is missing: run `dvc pull` where there is a remote, or `dvc repro`")
    facts = files.read_json(path)
    if not (isinstance(facts, dict) and "key" in facts and isinstance(facts.get("digests"), dict)):
        raise StudyError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    return facts


def read_model(run: Path, facts: dict[str, Any]) -> Any:
    """The keras.Model in the folder of a run, of which run.json says `facts`, loaded in Keras's safe mode.

    Raises:
        StudyError: a file is missing, or is not the one that training wrote.
    """
    path, wanted = run / "model.keras", facts["digests"].get("model")
    if not path.exists():
        raise StudyError(f"{path} is missing: run `dvc pull` where there is a remote, or `dvc repro`")
    if files.digest(path.read_bytes()) != wanted:
        raise StudyError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    with native_stderr_hidden():
        import keras  # here: it takes seconds

        keras.ops.zeros(())  # the first operation starts the runtime
    return keras.saving.load_model(path, compile=False, safe_mode=True)
