"""Run the whole pipeline on the digits of scikit-learn: the study of tools/demo.yaml, in build/demo.

`python -m tools.demo` does not change the data, models and results of the study around it.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.output import text
from stages.study import dvc, files, params, paths
from stages.study.params import Params
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.scores import ACCURACY, SCORES
from tools.stale import all_stages

FOLDER = Path("build/demo")
LOG = FOLDER / "demo.log"
STUDY = Path(__file__).with_name("demo.yaml")
COPIED = [
    "dvc.yaml",
    "many_seeds",
    "stages",
    "tools",
    "own/README.md",
    "pyproject.toml",
    "requirements.lock",
    ".dvcignore",
    ".dvc/config",
    ".dvc/plots",
]
LAST_LINES = 20  # of the output of DVC, printed if it fails

STAGE = re.compile(r"Running stage '(?P<stage>\w+)(@(?P<variant>\w+))?':")
RUN = re.compile(r"\[(?P<done>\d+)/(?P<of>\d+)\] \w+ seed \d+: ")
EVALUATED = re.compile(r"evaluated (?P<variant>\w+)$")


class Progress:
    """The progress of the commands, from their output: a bar on a terminal, otherwise a line for each command.

    Attributes:
        total: the number of stages, of runs, and of evaluations.
        done: how many of them are finished or running.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._terminal, self._started = sys.stderr.isatty(), time.monotonic()
        layout = "{desc:<44} {bar:24} {n_fmt}/{total_fmt}  {elapsed}"
        self._bar = tqdm(total=total, bar_format=layout, disable=not self._terminal, leave=False)

    def begin(self, command: str) -> None:
        """Show that a command begins."""
        self._show(command, done=0)
        if not self._terminal:
            seconds = time.monotonic() - self._started
            print(f"{seconds:4.0f} s  {self.done:>3}/{self.total}  {command}", flush=True)

    def update(self, line: str) -> None:
        """Read a line of the output."""
        if run := RUN.match(line):
            self._show(f"train: {run['done']} of {run['of']} runs")
        elif evaluated := EVALUATED.match(line):
            self._show(f"evaluate {evaluated['variant']}")
        elif stage := STAGE.match(line):
            self._show(" ".join(filter(None, [stage["stage"], stage["variant"]])))

    def _show(self, text: str, done: int = 1) -> None:
        self.done += done
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(done)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def number_of_steps(study: Params) -> int:
    """The total of `Progress`: the runs, an evaluation of each variant, and the stages that DVC records."""
    return number_of_runs(study) + len(study.variants) + len(all_stages(study))


def number_of_runs(study: Params) -> int:
    return sum(recipe.seeds for recipe in study.variants.values())


def prepare(folder: Path, study: Path) -> None:
    """Copy the code to a folder, for a study of its own; parameters, models and results that are there stay.

    Args:
        folder: the folder.
        study: the file with the parameters of the study.
    """
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir():
            shutil.rmtree(target, ignore_errors=True)  # a removed file would stay, and could be a family of models
            shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, target)
    if not (folder / params.PARAMS).exists():
        shutil.copy(study, folder / params.PARAMS)
    if not (folder / CERTIFIED).exists():
        files.write_table(folder / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))
    # The folder is not a part of the checkout around it, which may not exist.
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def run(study: Params) -> None:
    """Run the pipeline in `FOLDER`, with its output in `LOG`.

    Raises:
        UserError: a command fails.
    """
    commands = [
        dvc.command("repro", "split"),
        # `dvc repro` alone would import TensorFlow in two processes for each variant, which takes seconds.
        [sys.executable, "-m", "stages.train", "--all"],
        [sys.executable, "-m", "stages.evaluate", "--all"],
        dvc.command("repro"),
    ]
    with (
        LOG.open("w", buffering=1, encoding="utf-8") as log,
        contextlib.closing(Progress(number_of_steps(study))) as progress,
    ):
        for command in commands:
            _run(command, log, progress)


def _run(command: Sequence[str], log: TextIO, progress: Progress) -> None:
    name, last_lines = " ".join([Path(command[0]).name, *command[1:]]), deque[str](maxlen=LAST_LINES)
    progress.begin(name)
    with subprocess.Popen(
        command,
        cwd=FOLDER,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            last_lines.append(line)
            progress.update(line)
    if process.returncode != 0:
        raise UserError(
            f"`{name}` failed in {FOLDER}. The last lines of {LOG}:\n{''.join(last_lines).rstrip()}\n"
            "Fix the cause and run `make demo` again"
        )


def approaches() -> str:
    """The table of approaches of the report, aligned, and its caption."""
    _, caption, table = (FOLDER / paths.TABLES / "approaches.md").read_text(encoding="utf-8").strip().split("\n\n")
    header, _, *rows = map(_cells, table.splitlines())
    return f"{text.fitting(text.aligned(header, rows, left=1), header, rows)}\n\n{text.filled(caption)}"


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def verdicts() -> str:
    """The results of the comparisons, a line each."""
    named = [*FOLDER.glob(f"{paths.TABLES}/comparisons*.csv"), *FOLDER.glob(f"{paths.TABLES}/approach_pairs*.csv")]
    if not named:
        return "  none"
    table = pd.concat(map(pd.read_csv, sorted(named)))
    table = table.drop_duplicates(["a", "b", "score"])  # a pair of approaches may be a comparison as well
    rows = table.sort_values(["score", "difference"], ascending=[True, False]).itertuples()
    return "\n".join(f"  {row.a} → {row.b}: {row.verdict}{_details(row)}" for row in rows)


def _details(row: Any) -> str:
    """The difference and its interval, where a row of a table has them; score and unit if it is not the accuracy."""
    score = SCORES[row.score]
    by, unit = ("", "") if row.score == ACCURACY else (f" by {score.label}", score.unit and f" {score.unit}")
    if pd.isna(row.difference):
        return f"{by}, without a seed"
    difference, low, high = (text.number(value, score.difference_form) for value in (row.difference, row.low, row.high))
    interval = f"{low} … {high}" if np.isfinite(row.low) else "any"
    return f"{by}, {difference}{unit} ({interval})"


@console.command
def main() -> None:
    console.take_no_arguments("tools.demo", __doc__)
    params.load()  # an error if the current folder is not the top folder of a study
    prepare(FOLDER, STUDY)
    study = params.load(FOLDER / params.PARAMS)
    print(f"{len(study.variants)} variants, {number_of_runs(study)} runs, in {FOLDER}:")
    run(study)
    print(f"\n{approaches()}\n")
    console.show(f"Is b better than a (a → b)? Differences of test accuracy in percentage points:\n{verdicts()}\n")
    print(
        f"Report:    {FOLDER / paths.REPORT}, for any browser\n"
        f"Draw:      make serve IN={FOLDER}, then open http://127.0.0.1:5001/\n"
        f"Runs:      make ui IN={FOLDER}\n"
        f"Verdicts:  make settle IN={FOLDER}, adds seeds to undecided comparisons\n"
        f"Edit:      {FOLDER / params.PARAMS}, then make demo, which trains what is stale\n"
        f"Restart:   rm -r {FOLDER}, then make demo, which trains everything again\n"
        f"The study on MNIST: {paths.REPORT}"
    )


if __name__ == "__main__":
    main()
