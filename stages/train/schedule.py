"""Many runs: which are still to be trained, on what machine, and how far they are."""

import contextlib
import io
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from stages import records
from stages.params import Network, Params
from stages.train.run import RESULT_PACKAGES, Failed, Run, Trained, backend, code_digest, installed_versions, train_run

LOG_SECONDS = 60  # between two lines about the runs under way, where there is no terminal


def plan(study: Params, variants: Sequence[str], images: np.ndarray, labels: np.ndarray) -> list[Run]:
    """Every run of `variants`, variant by variant in the order of the seeds."""
    if backend() not in RESULT_PACKAGES:
        raise records.StudyError(f"KERAS_BACKEND should be one of {', '.join(RESULT_PACKAGES)}, received {backend()!r}")
    data, versions = records.digest(images, labels), installed_versions()
    dev = {seed: records.read_dev(seed) for seed in study.seeds}
    runs = []
    for variant in variants:
        recipe = study.recipe(variant)
        uses_dev = not isinstance(recipe, Network) or recipe.dev_split
        for seed in study.seeds:
            digests = {"data": data, "code": code_digest(recipe.family)}
            if uses_dev:
                digests["dev"] = records.digest(dev[seed])
            runs.append(Run(variant, recipe.model_dump(), seed, dev[seed] if uses_dev else None, digests, versions))
    return runs


def finished(run: Run) -> dict[str, Any] | None:
    """What run.json says, if the run's folder holds just this run, whole; otherwise None."""
    folder = records.run_path(run.variant, run.seed)
    try:
        facts = records.read_json(folder / "run.json")
        sound = facts["key"] == run.key and facts["digests"]["model"] == records.digest(
            (folder / "model.keras").read_bytes()
        )
        curve = (folder / "curves.csv").read_bytes()
        # A curve that was cut does not read back as it was written.
        sound = sound and records.csv_bytes(pd.read_csv(io.BytesIO(curve))) == curve
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError, records.StudyError):
        return None
    return facts if sound else None


Train = Callable[[Run, np.ndarray, np.ndarray, Path | None], Trained | Failed]


def train_all(
    runs: Sequence[Run],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    on_finish: Callable[[str, int], object],
    train: Train = train_run,
) -> None:
    """Train runs side by side and write each as it ends, so that a kill loses only those under way.

    They are computed on this machine's cores, or on the Dask cluster that DASK_SCHEDULER_ADDRESS names.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        on_finish: is called with the variant and the seed of every run that has been written.
        train: what a worker executes.

    Raises:
        StudyError: some run failed, or the workers are lost or can't be had; the finished runs are on disk.
    """
    failures = []
    with (
        _executor(runs, images, labels, train) as (results, under_way),
        _Progress(len(runs), under_way) as progress,
    ):
        for result in results:
            if isinstance(result, Failed):
                failures.append(f"{result.run.name}: {result.reason}")
                progress.say(f"{result.run.name}: failed: {result.reason}")
                continue
            records.write_folder(records.run_path(result.run.variant, result.run.seed), result.files)
            progress.finish(result)
            on_finish(result.run.variant, result.run.seed)
    if failures:
        raise records.StudyError(
            f"{len(failures)} of {len(runs)} runs failed; the others are kept:\n  " + "\n  ".join(failures)
        )


# What comes of every run, as it ends; and a function that says what is under way.
Execution = tuple[Iterator[Trained | Failed], Callable[[], str]]


def _executor(
    runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
) -> contextlib.AbstractContextManager[Execution]:
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        return _on_this_machine(runs, images, labels, train)
    try:
        from stages.train import cluster
    except ImportError as error:
        raise records.StudyError(
            "DASK_SCHEDULER_ADDRESS is set, but Dask is missing: pip install -e '.[cluster]'"
        ) from error
    return cluster.training(address, runs, images, labels, train)


@contextlib.contextmanager
def _on_this_machine(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # workers inherit it
    # A worker that has grown is replaced between two runs, which is as it should be and loses nothing.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    # Where this process stops for an error of its own, which says all that there is to say.
    warnings.filterwarnings("ignore", ".* tasks which were still being processed", UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        epochs = Path(folder)  # a file for each run under way, with its epoch

        def under_way() -> str:
            return "; ".join(f"{file.name} {_text(file)}" for file in sorted(epochs.iterdir()))

        tasks = (joblib.delayed(_attempt)(train, run, images, labels, epochs / run.name) for run in runs)
        with joblib.parallel_config("loky", n_jobs=min(workers(), len(runs)), inner_max_num_threads=1):
            try:
                yield joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks), under_way
            except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
                raise records.StudyError(
                    "a worker process died: it was killed, or the machine ran out of memory. The runs that had "
                    "finished are kept; run `dvc repro`, with STUDY_WORKERS=1 if memory is short."
                ) from error


def _attempt(train: Train, run: Run, images: np.ndarray, labels: np.ndarray, epoch: Path) -> Trained | Failed:
    # Whatever ends one run, memory or a full disk or a library, the others go on.
    try:
        return train(run, images, labels, epoch)
    except Exception as error:  # noqa: BLE001
        return Failed(run, f"{type(error).__name__}: {error}")


def workers() -> int:
    """Worker processes on this machine: STUDY_WORKERS, or one for each core that this process may use."""
    text = os.environ.get("STUDY_WORKERS", "")
    if not text:
        return joblib.cpu_count()
    if not text.isdecimal() or int(text) < 1:
        raise records.StudyError(f"STUDY_WORKERS should be a whole number from 1, received {text!r}")
    return int(text)


def cost(run: Run, images: int) -> float:
    """A guess at the multiplications that a run takes, to start the longest first."""
    recipe = run.recipe
    if recipe["family"] != "network":
        return images * 784.0**2
    side, channels, products = 28, 1, 0
    for filters, pool in zip(recipe["filters"], recipe["pool"], strict=True):
        side -= 2
        products += side**2 * 9 * channels * filters
        side, channels = (side // 2 if pool else side), filters
    width = side**2 * channels
    for units in recipe["units"]:
        products += width * units
        width = units
    return 3.0 * products * images * recipe["epochs"] * (0.35 if recipe["patience"] else 1)


class _Progress:
    """Bars on a terminal; elsewhere a line for every finished run and one a minute for those under way."""

    def __init__(self, total: int, under_way: Callable[[], str]) -> None:
        self._total, self._done, self._under_way = total, 0, under_way
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="run", disable=not self._terminal, file=sys.stderr)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def finish(self, trained: Trained) -> None:
        self._done += 1
        self._bar.update()
        facts = trained.facts
        parts = [f"[{self._done}/{self._total}] {trained.run.name}: {facts['seconds']:.0f} s"]
        if facts["epochs"] is not None:
            parts.append(f"{facts['epochs']} epochs")
        if facts["dev_accuracy"] is not None:
            parts.append(f"dev accuracy {facts['dev_accuracy']:.4f}")
        self.say(", ".join(parts))

    def _watch(self) -> None:
        said = time.monotonic()
        while not self._stop.wait(0.5):
            if not self._terminal and time.monotonic() - said < LOG_SECONDS:
                continue
            said = time.monotonic()
            under_way = self._under_way()
            if self._terminal:
                self._bar.set_postfix_str(under_way)
            elif under_way:
                self.say(f"under way: {under_way}")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:  # the run has just ended
        return ""


def longest_first(runs: Sequence[Run], images: int) -> list[Run]:
    return sorted(runs, key=lambda run: -cost(run, images))
