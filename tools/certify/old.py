"""Train runs with the code that made the results, on this machine: for bits that another kind of processor made."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.study import environments, files
from stages.study.environments import BACKEND_PACKAGES
from stages.study.models import read_facts
from stages.study.results import CALIBRATION_COLUMNS
from stages.train.run import Run
from tools.certify import history
from tools.certify.compare import Outcome, as_text
from tools.certify.sample import Check, Environments

DRIVER = Path(__file__).with_name("driver.py")
# Settings of the person who runs this that would train elsewhere or otherwise.
SETTINGS = {"STUDY_EXECUTOR": "processes", "TF_CPP_MIN_LOG_LEVEL": "2"}
THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
Name = tuple[str, int]  # of a run: variant and seed
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
            UserError: a file is missing or damaged.
        """
        model = read_facts(self.folder)["digests"]["model"]
        curve = as_text(pd.read_csv(self.folder / "curves.csv"))
        if not self.evaluated:
            return Outcome(curve, None, None, None, model)
        scores = as_text(pd.read_csv(self.folder / "test.csv"))
        bins = as_text(pd.read_csv(self.folder / "calibration.csv").reindex(columns=CALIBRATION_COLUMNS))
        return Outcome(curve, scores, bins, np.load(self.folder / "labels.npy"), model)


def train(checks: Sequence[Check], runs: Mapping[Name, Run], folder: Path) -> dict[Name, OldRun | UserError]:
    """Train runs with the code and the packages that made them, as one batch, and evaluate them where needed.

    Args:
        checks: what is checked, all of the same roots and parts.
        runs: to train, by variant and seed, as today's code trains them.
        folder: where runs, virtual environments and the checkout lie; finished runs in it are kept.

    Returns:
        Each run, or why there is none.

    Raises:
        UserError: no commit has that code, its packages can't be installed, or git can't check it out.
    """
    roots, parts = checks[0].roots, checks[0].parts
    here = environments.kind(environments.processor())
    place = folder / f"old-{files.digest(str(roots['train']), str(roots['evaluate']), here)[:12]}"
    missing = [run for run in runs.values() if not _finished(_folder(place, run), roots, run)]
    failure = UserError("the old code made other runs than it was asked for, or with other packages")
    if missing or ("evaluate" in parts and _unevaluated(runs.values(), place)):
        commit, evaluates = _commit(checks[0])
        with history.checkout(commit, folder) as study:
            python = history.python_of(roots["train"], study, folder)
            names = ", ".join(run.name for run in runs.values())
            print(f"the code of {commit[:12]} trains {names}, to compare the two codes here", flush=True)
            try:
                _train_in(study, python, missing, runs.values() if evaluates else (), place, roots)
            except UserError as error:
                failure = error
    return {
        name: _old_run(_folder(place, run)) if _finished(_folder(place, run), roots, run) else failure
        for name, run in runs.items()
    }


def _commit(check: Check) -> tuple[str, bool]:
    """The commit to check out, and whether it has the code that evaluated, where that is to be checked.

    Raises:
        UserError: there is none.
    """
    train, family = check.roots["train"], check.recipe.family
    if "evaluate" in check.parts and (commit := history.find(family, train, check.roots["evaluate"])):
        return commit, True
    if commit := history.find(family, train, None):
        return commit, False
    raise UserError(
        f"no commit in git's history has the code {train.code[:12]}… of {family} that made its results, with their "
        "packages, so that the old code can't be run here"
    )


def _train_in(
    study: Path, python: str, missing: Sequence[Run], evaluated: Iterable[Run], place: Path, roots: Environments
) -> None:
    """Train runs in a checkout and evaluate others.

    Raises:
        UserError: the old code fails.
    """
    backend = next(name for name in BACKEND_PACKAGES if name in roots["train"].versions)
    settings = SETTINGS | {"KERAS_BACKEND": backend}
    if missing:
        _drive(python, study, _job(missing, place, evaluate=False), settings)
    if waiting := _unevaluated(evaluated, place):
        _drive(python, study, _job(waiting, place, evaluate=True), settings | THREADS)


def _folder(place: Path, run: Run) -> Path:
    return place / run.variant / str(run.seed)


def _unevaluated(runs: Iterable[Run], place: Path) -> list[Run]:
    return [run for run in runs if not (_folder(place, run) / "test.csv").exists()]


def _job(runs: Sequence[Run], place: Path, *, evaluate: bool) -> dict[str, Any]:
    """What the driver is to do."""
    for run in runs:
        _folder(place, run).parent.mkdir(parents=True, exist_ok=True)
    wanted = [
        {
            "variant": run.variant,
            "seed": run.seed,
            "fields": run.recipe.key_fields(),
            "folder": str(_folder(place, run).resolve()),
        }
        for run in runs
    ]
    return {"classes": runs[0].classes, "runs": wanted, "evaluate": evaluate}


def _drive(python: str, study: Path, job: dict[str, Any], settings: dict[str, str]) -> None:
    """Run the driver in a checkout, as a group of processes that ends with this one.

    Raises:
        UserError: it fails.
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
        raise UserError(f"the old code can't be run here: {' '.join(last)}")


def _finished(folder: Path, roots: Environments, run: Run) -> bool:
    """Whether the folder holds this run of the old code, whole and made with the packages of the results."""
    try:
        facts = read_facts(folder)
        model = files.digest((folder / "model.keras").read_bytes())
    except (UserError, OSError):
        return False
    # The commit was found by its code, whose digest may have had another form in its time.
    same = environments.of_run(facts).versions == roots["train"].versions
    same = same and (facts["variant"], facts["seed"]) == (run.variant, run.seed)
    same = same and run.recipe.key_fields().items() <= facts["parameters"].items()
    same = same and all(facts["digests"].get(name) == run.digests.get(name) for name in ("data", "dev"))
    return bool(same) and facts["digests"]["model"] == model


def _old_run(folder: Path) -> OldRun:
    return OldRun(folder, (folder / "test.csv").exists())
