"""Where the files lie that stages hand to one another, and their columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.study import files

RAW = Path("data/raw")
TRAIN = Path("data/train.npz")
TEST = Path("data/test.npz")
DEV = Path("data/dev.npz")
MODELS = Path("models")
RUNS = Path("metrics/runs")
SUMMARY = Path("metrics/summary.json")
ACCURACY = Path("metrics/accuracy.json")
TABLES = Path("metrics/tables")
PLOTS = Path("metrics/plots")
REPORT = Path("metrics/report.html")
CHAMPION = Path("metrics/champion.json")

# Of test.csv; behind them stand the scores of stages/evaluate and the facts of the recipe.
RUN_COLUMNS = ["seed", "key", "data"]
CALIBRATION_COLUMNS = ["seed", "bin", "images", "confidence", "accuracy"]
# environment and evaluation: what trained and what evaluated the run. model: the SHA-256 of model.keras.
ENVIRONMENT_COLUMNS = ["seed", "environment", "evaluation", "model", "processor"]
NOT_RECORDED = "not recorded"  # in place of a model's digest, or of a processor


def run_path(variant: str, seed: int, folder: Path = MODELS) -> Path:
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


RUN_FILES = {
    path("").name for path in (curves_path, scores_path, calibration_path, predictions_path, environments_path)
}


def read_scores(variant: str) -> pd.DataFrame:
    """The test.csv of a variant: a row a seed, with `RUN_COLUMNS` and whatever scores and facts its runs have.

    Raises:
        UserError: it is missing, or is no such table.
    """
    return files.read_table(scores_path(variant), [*RUN_COLUMNS, "test_accuracy"], more=True)


def read_environments(variant: str) -> pd.DataFrame:
    """The environments.csv of a variant: a row a seed, with `ENVIRONMENT_COLUMNS`, all but the seed as text.

    Raises:
        UserError: it is missing, or is no such table.
    """
    path = environments_path(variant)
    if not path.exists():
        raise UserError(
            f"{path} is missing: `python -m tools.migrate` writes it for results of version 1, `dvc repro "
            f"evaluate@{variant}` for models that are here"
        )
    return files.read_table(path, ENVIRONMENT_COLUMNS)


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of data/train.npz or data/test.npz.

    Returns:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        labels: [n], uint8, or uint16 where there are more than 256 classes.
    """
    arrays = files.read_arrays(path)
    return arrays["images"], arrays["labels"]


def read_classes(path: Path) -> list[str]:
    """The names of the labels 0, 1, … of data/train.npz or data/test.npz."""
    return [str(name) for name in files.read_arrays(path)["classes"]]


def read_dev(seed: int, path: Path = DEV) -> np.ndarray:
    """The sorted indices, int64 [dev images], of the training images that `seed` sets aside.

    Raises:
        UserError: the file is missing or damaged, or `seed` is none of the seeds that the split stage drew for.
    """
    arrays = files.read_arrays(path)
    rows, images = arrays["dev"], int(arrays["images"])
    if not 0 <= seed < len(rows):
        raise UserError(
            f"{path} has the dev images of seeds 0 to {len(rows) - 1}, received seed {seed}: set split.seeds in "
            f"params.yaml to at least {seed + 1} and run `dvc repro`"
        )
    return np.flatnonzero(np.unpackbits(rows[seed], count=images)).astype(np.int64)


def read_facts(run: Path) -> dict[str, Any]:
    """What run.json in the folder of a run says.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = run / "run.json"
    if not path.exists():
        raise UserError(f"{path} is missing: {_way_to(run)}")
    facts = files.read_json(path)
    if not (
        isinstance(facts, dict)
        and "key" in facts
        and isinstance(facts.get("digests"), dict)
        and "code" in facts["digests"]
    ):
        raise UserError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    return facts


def _way_to(run: Path) -> str:
    # -f: where other runs of the variant were taken as evaluated, DVC holds its models for complete.
    data = "" if TRAIN.exists() else "`dvc repro split` and "
    return (
        f"run `dvc pull` where there is a remote, or {data}`dvc repro -f -s train@{run.parent.name}`, which trains it"
    )


def read_model(run: Path, facts: dict[str, Any]) -> Any:
    """The keras.Model in the folder of a run, of which run.json says `facts`, loaded in Keras's safe mode.

    Raises:
        UserError: a file is missing, or is not the one that training wrote.
    """
    path, wanted = run / "model.keras", facts["digests"].get("model")
    if not path.exists():
        raise UserError(f"{path} is missing: {_way_to(run)}")
    if files.digest(path.read_bytes()) != wanted:
        raise UserError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    with native_stderr_hidden():
        import keras  # here: it takes seconds

        keras.ops.zeros(())  # the first operation starts the runtime
    return keras.saving.load_model(path, compile=False, safe_mode=True)
