"""Train runs on this machine with the code that made the results, if these are of another kind of processor."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.study import files
from stages.study.provenance import environments
from stages.study.provenance.environments import BACKEND_PACKAGES
from stages.study.records.models import read_facts
from stages.study.records.results import CALIBRATION_COLUMNS
from stages.train.run import Run
from tools.certify import history
from tools.certify.outcomes import Outcome, as_text
from tools.certify.sample import Check, Environments

DRIVER = Path(__file__).with_name("driver.py")
# Set for the old code, in place of variables of the user that would change where or how it trains.
SETTINGS = {"STUDY_EXECUTOR": "processes", "TF_CPP_MIN_LOG_LEVEL": "2"}
THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
RunName = tuple[str, int]  # variant and seed
LAST_LINES = 3  # of the output of the old code, printed if it fails


@dataclass(frozen=True)
class OldRun:
    """A run of the old code.

    Attributes:
        folder: its folder.
        evaluated: whether the old code evaluated it too.
    """

    folder: Path
    evaluated: bool

    @property
    def outcome(self) -> Outcome:
        """Its outcome.

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


def train(checks: Sequence[Check], runs: Mapping[RunName, Run], folder: Path) -> dict[RunName, OldRun | UserError]:
    """Train runs as one batch with the code and the packages that made them, and evaluate them if needed.

    Args:
        checks: checks with the same roots and parts.
        runs: the runs to train, as today's code trains them.
        folder: the folder of runs, virtual environments and the checkout; finished runs in it are kept.

    Returns:
        Each run, or the error that prevents it.

    Raises:
        UserError: no commit has that code, its packages can't be installed, or git fails.
    """
    roots = checks[0].roots
    here = environments.kind(environments.processor())
    place = folder / f"old-{files.digest(str(roots['train']), str(roots['evaluate']), here)[:12]}"
    failure = _train_missing(checks[0], runs.values(), folder, place)
    failure = failure or UserError("the old code made other runs than requested, or with other packages")
    return {
        name: _old_run(_folder(place, run)) if _finished(_folder(place, run), roots, run) else failure
        for name, run in runs.items()
    }


def _train_missing(check: Check, runs: Collection[Run], folder: Path, place: Path) -> UserError | None:
    """Train and evaluate the runs that are missing in `place`.

    Returns:
        The error with which the old code failed, or None.

    Raises:
        UserError: the old code can't be started.
    """
    missing = [run for run in runs if not _finished(_folder(place, run), check.roots, run)]
    if not missing and not ("evaluate" in check.parts and _unevaluated(runs, place)):
        return None
    commit, evaluates = _commit(check)
    with history.checkout(commit, folder) as study:
        python = history.python_of(check.roots["train"], study, folder)
        names = ", ".join(run.name for run in runs)
        print(f"the code of {commit[:12]} trains {names}, to compare the two codes here", flush=True)
        try:
            _train_in(study, python, missing, runs if evaluates else (), place, check.roots)
        except UserError as error:
            return error
    return None


def _commit(check: Check) -> tuple[str, bool]:
    """The commit to check out, and whether it also has the code that evaluated the runs, if this is checked.

    Raises:
        UserError: there is no such commit.
    """
    train, family = check.roots["train"], check.recipe.family
    if "evaluate" in check.parts and (commit := history.find_commit(family, train, check.roots["evaluate"])):
        return commit, True
    if commit := history.find_commit(family, train, None):
        return commit, False
    raise UserError(
        f"no commit in git's history has the code {train.code[:12]}… of {family} that made its results, with their "
        "packages: the old code can't be run here"
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
    """The job of the driver."""
    for run in runs:
        _folder(place, run).parent.mkdir(parents=True, exist_ok=True)
    requested = [
        {
            "variant": run.variant,
            "seed": run.seed,
            "fields": run.recipe.key_fields(),
            "folder": str(_folder(place, run).resolve()),
        }
        for run in runs
    ]
    return {"classes": runs[0].classes, "runs": requested, "evaluate": evaluate}


def _drive(python: str, study: Path, job: dict[str, Any], settings: dict[str, str]) -> None:
    """Run the driver in a checkout, in a group of processes that ends with this process.

    Raises:
        UserError: the driver fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    environment |= settings | {"PYTHONPATH": ""}
    command = [python, "-c", DRIVER.read_text(encoding="utf-8")]
    with (
        _as_file(json.dumps(job)) as content,
        subprocess.Popen(
            command,
            cwd=study,
            env=environment,
            stdin=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        ) as process,
    ):
        try:
            last = _print_progress(process)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise UserError(f"the old code can't be run here: {' '.join(last)}")


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[IO[str]]:
    """A temporary file to read a text from. A job may be longer than an argument, and than what a pipe holds."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write(text)
        file.seek(0)
        yield file


def _print_progress(process: subprocess.Popen[str]) -> deque[str]:
    """Print the finished runs of the driver until it ends; return its last lines."""
    assert process.stdout is not None
    last = deque[str](maxlen=LAST_LINES)
    for line in process.stdout:
        last.append(line.rstrip())
        if line.startswith(("[", "under way")):
            print(f"old code: {line}", end="", flush=True)
    return last


def _finished(folder: Path, roots: Environments, run: Run) -> bool:
    """Whether the folder has this run of the old code, complete and made with the packages of the results."""
    try:
        facts = read_facts(folder)
        model = files.digest((folder / "model.keras").read_bytes())
    except (UserError, OSError):
        return False
    # The code is not compared: the commit was found by it, and its digest may have had another form then.
    return (
        environments.of_run(facts).versions == roots["train"].versions
        and (facts["variant"], facts["seed"]) == (run.variant, run.seed)
        and run.recipe.key_fields().items() <= facts["parameters"].items()
        and all(facts["digests"].get(name) == run.digests.get(name) for name in ("data", "dev"))
        and bool(facts["digests"]["model"] == model)
    )


def _old_run(folder: Path) -> OldRun:
    return OldRun(folder, (folder / "test.csv").exists())
