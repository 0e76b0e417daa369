"""Train runs with the code that made the results, on this machine: for bits that another kind of processor made."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import files, records
from stages.errors import StudyError
from stages.study import environments
from stages.study.environments import BACKEND_PACKAGES
from stages.train.run import Run
from tools.certify import history
from tools.certify.compare import Outcome, as_text
from tools.certify.sample import Check

DRIVER = Path(__file__).with_name("driver.py")
# Settings of the person who runs this that would train elsewhere or otherwise.
SETTINGS = {"STUDY_EXECUTOR": "processes", "TF_CPP_MIN_LOG_LEVEL": "2"}
THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
LAST_LINES = 3  # of what the old code says where it fails


@dataclass(frozen=True)
class OldRun:
    """A run of the old code: its folder, and whether the old code evaluated it too."""

    folder: Path
    evaluated: bool

    @property
    def outcome(self) -> Outcome:
        """What came of it, in the form that is compared.

        Raises:
            StudyError: a file is missing or damaged.
        """
        model = records.read_facts(self.folder)["digests"]["model"]
        curve = as_text(pd.read_csv(self.folder / "curves.csv"))
        if not self.evaluated:
            return Outcome(curve, None, None, None, model)
        scores = as_text(pd.read_csv(self.folder / "test.csv"))
        bins = as_text(pd.read_csv(self.folder / "calibration.csv").reindex(columns=records.CALIBRATION_COLUMNS))
        return Outcome(curve, scores, bins, np.load(self.folder / "labels.npy"), model)


def train(check: Check, runs: Mapping[int, Run], folder: Path) -> dict[int, OldRun]:
    """Train seeds of a variant with the code and the packages of the check's roots, and evaluate them where needed.

    Args:
        check: what is checked.
        runs: to train, by seed, as today's code trains them.
        folder: where runs, virtual environments and the checkout lie; finished runs in it are kept.

    Returns:
        The runs, by seed.

    Raises:
        StudyError: no commit has that code, its packages can't be installed, or it fails.
    """
    train, evaluation = check.roots["train"], check.roots["evaluate"]
    place = folder / f"old-{files.digest(str(train), str(evaluation))[:12]}" / check.variant
    missing = [run for seed, run in runs.items() if not _finished(place / str(seed), check, run)]
    if not missing and ("evaluate" not in check.parts or not _unevaluated(runs.values(), place)):
        return {seed: _old_run(place / str(seed)) for seed in runs}
    wanted = evaluation if "evaluate" in check.parts else None
    commit = history.find(check.recipe.family, train, wanted)
    if commit is None and wanted is not None:
        wanted, commit = None, history.find(check.recipe.family, train, None)
    if commit is None:
        raise StudyError(
            f"no commit in git's history has the code {train.code[:12]}… of {check.recipe.family} that made its "
            "results, with their packages, so that the old code can't be run here"
        )
    with history.checkout(commit, folder) as study:
        settings = SETTINGS | {"KERAS_BACKEND": next(name for name in BACKEND_PACKAGES if name in train.versions)}
        python = history.python_of(train, study, folder)
        print(f"{check.variant}: training seed {', '.join(map(str, runs))} with the code of {commit[:12]}", flush=True)
        if missing:
            _drive(python, study, _job(missing, place, evaluate=False), settings)
        if wanted is not None and (waiting := _unevaluated(runs.values(), place)):
            _drive(python, study, _job(waiting, place, evaluate=True), settings | THREADS)
    return {seed: _checked(place / str(seed), check, run) for seed, run in runs.items()}


def _unevaluated(runs: Iterable[Run], place: Path) -> list[Run]:
    return [run for run in runs if not (place / str(run.seed) / "test.csv").exists()]


def _job(runs: Sequence[Run], place: Path, *, evaluate: bool) -> dict[str, Any]:
    """What the driver is to do."""
    place.mkdir(parents=True, exist_ok=True)
    wanted = [
        {
            "variant": run.variant,
            "seed": run.seed,
            "fields": run.recipe.decisive(),
            "folder": str((place / str(run.seed)).resolve()),
        }
        for run in runs
    ]
    return {"classes": runs[0].classes, "runs": wanted, "evaluate": evaluate}


def _drive(python: str, study: Path, job: dict[str, Any], settings: dict[str, str]) -> None:
    """Run the driver in a checkout, as a group of processes that ends with this one.

    Raises:
        StudyError: it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    environment |= settings | {"PYTHONPATH": ""}
    with subprocess.Popen(
        [python, "-c", DRIVER.read_text(encoding="utf-8"), json.dumps(job)],
        cwd=study,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            last: list[str] = []
            for line in process.stdout:
                last = [*last, line.rstrip()][-LAST_LINES:]
                if line.startswith(("[", "under way")):
                    print(f"old code: {line}", end="", flush=True)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise StudyError(f"the old code can't be run here: {' '.join(last)}")


def _finished(folder: Path, check: Check, run: Run) -> bool:
    """Whether the folder holds this run of the old code, whole."""
    try:
        _checked(folder, check, run)
    except (StudyError, OSError, KeyError):
        return False
    return True


def _checked(folder: Path, check: Check, run: Run) -> OldRun:
    """The run in a folder.

    Raises:
        StudyError: it is another run, is damaged, or was made with other packages than the results.
    """
    facts = records.read_facts(folder)
    same = (facts["variant"], facts["seed"]) == (run.variant, run.seed)
    same = same and run.recipe.decisive().items() <= facts["parameters"].items()
    same = same and all(facts["digests"].get(name) == run.digests.get(name) for name in ("data", "dev"))
    if not same or files.digest((folder / "model.keras").read_bytes()) != facts["digests"]["model"]:
        raise StudyError(f"{folder} holds another run, or a damaged one: delete it and run the same command again")
    made = environments.of_run(facts)  # the commit was found by its code, whose digest may have had another form
    wanted = replace(made, versions=check.roots["train"].versions)
    if made != wanted:
        changes = ", ".join(wanted.differences(made, "train"))
        raise StudyError(f"the packages that made the results can't be had here: {changes}")
    return _old_run(folder)


def _old_run(folder: Path) -> OldRun:
    return OldRun(folder, (folder / "test.csv").exists())
