"""The time that `dvc repro` takes besides training, by part, on a small study in a separate folder."""

import heapq
import itertools
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import joblib
import pandas as pd

from benchmarks.process import DATABASE, environment, measure, write_study
from many_seeds.errors import UserError
from stages.study import files, paths
from stages.study.data import OWN, Data, DatasetName
from stages.study.params import Comparison, Params, Split
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.records.models import read_facts

CODE = [
    *("stages", "many_seeds", "tools", "benchmarks", OWN),
    *(".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "pyproject.toml", "requirements.lock"),
]
FETCH_AND_SPLIT, CODE_AND_LEDGER = "fetch and split", "code and ledger"
EVALUATE, AGGREGATE = "evaluate", "aggregate"
START, TRAINING, REST = "train: start of process and workers", "train: training", "train: saving and publishing"
DVC = "DVC, before the first stage"
SHORT_STAGES = {"fetch": FETCH_AND_SPLIT, "split": FETCH_AND_SPLIT, "code": CODE_AND_LEDGER, "ledger": CODE_AND_LEDGER}
AGAIN, PUBLISH = "dvc repro once more, with nothing to do", "publishing every run to a new MLflow"
PARTS = [DVC, FETCH_AND_SPLIT, CODE_AND_LEDGER, START, TRAINING, REST, EVALUATE, AGGREGATE]


def short_study(study: Params, data: DatasetName, seeds: int, variants: Sequence[str]) -> Params:
    """A study with fewer variants, trained for one epoch on a tenth of the images; the others are for validation."""
    short = {"seeds": seeds, "epochs": 1, "dev_split": True}
    changes = {
        "data": Data(name=data),
        "split": Split(dev_fraction=0.9, seeds=seeds),
        "variants": {name: study.variants[name].model_copy(update=short) for name in variants},
        "approaches": {name: name for name in variants},
        "champion": None,
        "comparisons": [Comparison(a=a, b=b) for a, b in zip(variants[::2], variants[1::2], strict=False)],
        "chains": {},
    }
    return study.model_copy(update=changes)


def copy_code(folder: Path) -> None:
    """Copy the code of the pipeline into a folder, without data and results."""
    for name in CODE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir():
            shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, folder / name)
    files.write_table(folder / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))


def reproduce(study: Params, folder: Path) -> dict[str, float]:
    """Seconds of each of `PARTS` of a first `dvc repro` of `study`, made in `folder`, and of what follows it.

    A stage's seconds include what DVC does for it, and what it publishes. Then `AGAIN`: a second `dvc repro`; and
    `PUBLISH`: all runs once more, to an MLflow that knows none of them, without its start.

    Raises:
        UserError: `dvc repro` failed, or the second one had something to do.
    """
    copy_code(folder)
    if study.data.name != "digits":
        shutil.copytree(paths.RAW, folder / paths.RAW)
    write_study(study, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    marks = repro(folder)
    seconds = dict.fromkeys(PARTS, 0.0)
    for (name, start), (_, end) in itertools.pairwise(marks):
        stage, _, variant = name.partition("@")
        if stage == "train":
            seeds = range(study.recipe(variant).seeds)
            facts = [read_facts(folder / paths.run_path(variant, seed)) for seed in seeds]
            facts.sort(key=lambda run: run["started"])
            training = makespan([run["seconds"] for run in facts], joblib.cpu_count())
            seconds[START] += facts[0]["started"] - start
            seconds[TRAINING] += training
            seconds[REST] += end - facts[0]["started"] - training
        else:
            seconds[SHORT_STAGES.get(stage, stage)] += end - start
    again = repro(folder)
    if len(again) != 2:
        raise UserError(f"a second `dvc repro` should have nothing to do, but ran {again[1][0]}")
    (folder / DATABASE).unlink()
    return seconds | {AGAIN: again[1][1] - again[0][1], PUBLISH: measure("publish", folder=folder)["seconds"]}


def repro(folder: Path) -> list[tuple[str, float]]:
    """The parts of a `dvc repro` with the time at which each began; the last one is its end."""
    marks, lines = [(DVC, time.time())], []
    with subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if match := re.match("Running stage '(.+)':", line):
                marks.append((match[1], time.time()))
    if process.returncode != 0:
        raise UserError("`dvc repro` of a small study failed:\n" + "".join(lines[-20:]))
    return [*marks, ("end", time.time())]


def makespan(seconds: Iterable[float], workers: int) -> float:
    """How long jobs take that are begun in this order, each by the first worker that is free."""
    free = [0.0] * workers
    for job in seconds:
        heapq.heapreplace(free, free[0] + job)
    return max(free)
