"""The files that stages hand to one another: where they lie, what is in them, and how they are written.

Every file and folder lands whole or not at all: it is written beside its place and renamed into it.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.arrays import read_npz, write_npz

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

CURVE_COLUMNS = ["seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
# A closed-form variant has no epochs: its curve is the search for alpha, a row for each value tried.
SEARCH_COLUMNS = ["seed", "search", "alpha", "val_loss", "val_accuracy"]
TEST_COLUMNS = [
    *("seed", "key", "data", "test_loss", "test_accuracy", "dev_loss", "dev_accuracy", "epochs", "best_epoch"),
    *("alpha_mse", "alpha_accuracy"),
]
CALIBRATION_COLUMNS = ["seed", "bin", "images", "confidence", "accuracy"]

CLASSES = 10

# What decides the scores; the commit that last touched one of them is the commit of the results.
CODE = ["params.yaml", "stages/fetch", "stages/split", "stages/train", "stages/evaluate"]


class StudyError(Exception):
    """Something the person at the keyboard can mend; the message says what was expected, what was found, what to do."""


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Let `main` end with one clear line and exit status 1 where a person's input or machine is at fault."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except StudyError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {error.strerror or error}: {error.filename or 'no file named'}")

    return run


def take_no_arguments(module: str, description: str | None) -> None:
    """Answer --help, and refuse any other argument, for a module that is run without."""
    argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()


@contextlib.contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Hide what native code prints while TensorFlow starts: a greeting in every process that no setting turns off."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block ends well, and is gone when it does not.

    Raises:
        StudyError: it can't be written: the disk is full, say, or the folder read-only.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            unfinished = Path(scratch) / path.name
            yield unfinished
            if unfinished.is_dir() and path.is_dir():
                # A folder can't be renamed over one that is not empty. A kill between the two steps loses this one.
                path.rename(Path(scratch) / "replaced")
            unfinished.replace(path)
    except OSError as error:
        raise StudyError(
            f"{path} can't be written: {error.strerror or error}. What was there before is kept; mend that and run the "
            "same command again."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files that appears whole, replacing the one that was there."""
    with written_whole(path) as unfinished:
        unfinished.mkdir()
        for name, content in files.items():
            (unfinished / name).write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, csv_bytes(table))


def csv_bytes(table: pd.DataFrame) -> bytes:
    # 8 digits are more than a score of 10,000 images has, and a float32 loss: the text round-trips what matters.
    return table.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode()


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV file of this study.

    Raises:
        StudyError: the file is missing, or its columns are not `columns`.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise StudyError(f"{path} is missing: run `dvc repro`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not a CSV file ({error}): restore it with git, or run `dvc repro`") from error
    if list(table.columns) != columns:
        raise StudyError(f"{path} should have the columns {columns}, found {list(table.columns)}: run `dvc repro`")
    return table


def write_arrays(path: Path, *, compressed: bool = False, **arrays: np.ndarray) -> None:
    """Write arrays to an .npz file whose bytes depend on the arrays alone; `compressed` for files that git keeps."""
    with written_whole(path) as unfinished:
        write_npz(unfinished, arrays, compressed=compressed)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an .npz file, without pickle.

    Raises:
        StudyError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            return read_npz(file)
    except FileNotFoundError:
        raise StudyError(f"{path} is missing: run `dvc repro`") from None
    # NumPy, zip and bzip2 each have errors of their own for a damaged file.
    except Exception as error:
        # Without NumPy's advice how to load a pickle all the same.
        raise StudyError(
            f"{path} is damaged ({str(error).partition('. ')[0]}): delete it and run `dvc repro`"
        ) from error


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of data/train.npz or data/test.npz.

    Returns:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        labels: [n], uint8, or uint16 where there are more than 256 classes.
    """
    arrays = read_arrays(path)
    return arrays["images"], arrays["labels"]


def read_classes(path: Path) -> list[str]:
    """The names of the labels 0, 1, … of data/train.npz or data/test.npz."""
    return [str(name) for name in read_arrays(path)["classes"]]


def read_dev(seed: int, path: Path = DEV) -> np.ndarray:
    """The sorted indices, int64 [dev images], of the training images that `seed` sets aside.

    Raises:
        StudyError: the file is missing or damaged, or `seed` is none of the seeds that the split stage drew for.
    """
    arrays = read_arrays(path)
    rows, images = arrays["dev"], int(arrays["images"])
    if not 0 <= seed < len(rows):
        raise StudyError(
            f"{path} has the dev images of seeds 0 to {len(rows) - 1}, received seed {seed}: set split.seeds in "
            f"params.yaml to at least {seed + 1} and run `dvc repro`"
        )
    return np.flatnonzero(np.unpackbits(rows[seed], count=images)).astype(np.int64)


def read_facts(run: Path) -> dict[str, Any]:
    """What run.json in the folder of a run says.

    Raises:
        StudyError: the file is missing or damaged.
    """
    path = run / "run.json"
    if not path.exists():
        raise StudyError(f"{path} is missing: run `dvc pull` where there is a remote, or `dvc repro`")
    facts = read_json(path)
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
    if digest(path.read_bytes()) != wanted:
        raise StudyError(f"{path} is damaged: it is not the file that training wrote. Run `dvc repro`")
    with native_stderr_hidden():
        import keras  # here: it takes seconds

        keras.ops.zeros(())  # the first operation starts the runtime
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def digest(*parts: bytes | np.ndarray | str) -> str:
    """SHA-256 over the parts, arrays by shape, type and content; hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            content = part.encode() if isinstance(part, str) else part
            total.update(f"{len(content)}:".encode())
            total.update(content)
    return total.hexdigest()


def code_commit() -> str | None:
    """The commit that last changed what decides the scores, "-dirty" after it where that has changes since.

    None outside a git checkout.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments, "--", *CODE], capture_output=True, text=True, check=False).stdout

    commit = git("log", "-1", "--format=%H").strip()
    return commit + ("-dirty" if git("status", "--porcelain") else "") if commit else None


def remove_unknown(folder: Path, known: set[str]) -> None:
    """Delete what lies in `folder` under names that are not `known`, such as the runs of a seed no longer asked for."""
    if folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name not in known:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
