"""The whole pipeline on the digits that come with scikit-learn: the study of tools/demo.yaml, in build/demo.

`python -m tools.demo` leaves the study's own data, models and results alone.
"""

import re
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from many_seeds import console
from many_seeds.errors import UserError
from stages.study import dvc, files, params, paths
from stages.study.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.params import Params
from stages.tracking import address

FOLDER = Path("build/demo")
LOG = FOLDER / "repro.log"
STUDY = Path(__file__).with_name("demo.yaml")
COPIED = ["dvc.yaml", "many_seeds", "stages", "tools", "own/README.md", "pyproject.toml", "requirements.lock"]
COPIED += [".dvcignore", ".dvc/config", ".dvc/plots"]
LAST_LINES = 20  # of DVC's output, where it fails

STAGE = re.compile(r"Running stage '(?P<stage>\w+)(@(?P<variant>\w+))?':")
RUN = re.compile(r"\[(?P<done>\d+)/(?P<of>\d+)\] \w+ seed \d+: ")


class Progress:
    """How far a `dvc repro` is, from its output: a bar on a terminal, elsewhere a line for each stage.

    total: the stages but those that train, and the runs.
    """

    def __init__(self, total: int) -> None:
        self._terminal, self._started, self._total, self._done = sys.stderr.isatty(), time.monotonic(), total, 0
        self._stage = ""
        layout = "{desc:<44} {bar:24} {n_fmt}/{total_fmt}  {elapsed}"
        self._bar = tqdm(total=total, bar_format=layout, disable=not self._terminal, leave=False)

    def see(self, line: str) -> None:
        """Take a line of DVC's output."""
        if run := RUN.match(line):
            self._say(f"{self._stage}: {run['done']} of {run['of']} seeds", done=1)
        elif stage := STAGE.match(line):
            self._stage = " ".join(filter(None, [stage["stage"], stage["variant"]]))
            self._say(self._stage, done=0 if stage["stage"] == "train" else 1)
            if not self._terminal:
                seconds = time.monotonic() - self._started
                print(f"{seconds:4.0f} s  {self._done:>3}/{self._total}  {self._stage}", flush=True)

    def _say(self, words: str, done: int) -> None:
        self._done += done
        self._bar.set_description_str(words, refresh=False)
        self._bar.update(done)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def steps(study: Params) -> int:
    """What `Progress` counts: fetch, split, code and aggregate, each variant's evaluation, and the runs."""
    return 4 + len(study.variants) + sum(recipe.seeds for recipe in study.variants.values())


def prepare() -> None:
    """A study of its own in `FOLDER`, with the code as it is here; what an earlier demo made there stays."""
    for name in COPIED:
        place = FOLDER / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir():
            shutil.rmtree(place, ignore_errors=True)  # a file that the code has no more may be a family of models
            shutil.copytree(name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, place)
    if not (FOLDER / params.PARAMS).exists():
        shutil.copy(STUDY, FOLDER / params.PARAMS)
    if not (FOLDER / CERTIFIED).exists():
        files.write_table(FOLDER / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))
    # The demo is no part of the checkout around it, and there may be none.
    (FOLDER / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def repro(study: Params) -> None:
    """`dvc repro` in the demo's folder, its output in `LOG`.

    Raises:
        UserError: it fails.
    """
    command = dvc.command("repro")
    # The demo's runs appear beside the study's, as an experiment of their own.
    environment = address.client_environment() | {"PYTHONUNBUFFERED": "1"}
    progress, last = Progress(steps(study)), deque[str](maxlen=LAST_LINES)
    with (
        LOG.open("w", buffering=1, encoding="utf-8") as log,
        subprocess.Popen(
            command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            last.append(line)
            progress.see(line)
    progress.close()
    if process.returncode != 0:
        raise UserError(f"`dvc repro` failed in {FOLDER}. Its last lines, of {LOG}:\n{''.join(last).rstrip()}")


def answers() -> str:
    """The verdicts of the demo, a line each."""
    tables = [pd.read_csv(FOLDER / paths.TABLES / name) for name in ("comparisons.csv", "approach_pairs.csv")]
    table = pd.concat(tables).drop_duplicates(["a", "b"])  # neighbouring approaches may be compared as well
    lines = [
        f"  {row.a} → {row.b}: {row.verdict}, {row.difference:+.2f} ({row.low:+.2f} … {row.high:+.2f})"
        for row in table.sort_values("difference", ascending=False).itertuples()
    ]
    return "\n".join(lines)


@console.command
def main() -> None:
    console.take_no_arguments("tools.demo", __doc__)
    params.load()  # says where this is not the top folder of the study
    prepare()
    study = params.load(FOLDER / params.PARAMS)
    runs = sum(recipe.seeds for recipe in study.variants.values())
    print(f"{len(study.variants)} models, {runs} runs with their seeds: `dvc repro` in {FOLDER}")
    repro(study)
    print((FOLDER / paths.TABLES / "approaches.md").read_text(encoding="utf-8"))
    print(f"Is b better than a (a → b)? Differences and intervals in percentage points:\n{answers()}\n")
    print(
        f"Report:  {FOLDER / paths.REPORT}, opens in any browser\n"
        f"Runs:    make ui IN={FOLDER}\n"
        f"Decide:  make settle IN={FOLDER}, adds seeds until every comparison has a verdict\n"
        f"Change:  {FOLDER / params.PARAMS}, then make demo, trains what is stale\n"
        f"Begin:   rm -r {FOLDER}, then make demo, trains all anew\n"
        f"The study on MNIST: {paths.REPORT}"
    )


if __name__ == "__main__":
    main()
