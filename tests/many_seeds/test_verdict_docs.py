"""The examples of the README and of two pages: their files are written, and their commands print what is shown."""

import os
import re
import runpy
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import fluent
from mlflow.tracking._tracking_service import utils as tracking

from many_seeds.statistics.intervals import Design, half_width
from tests import ROOT
from tests.support import command

NAMES = ("README.md", "docs/verdicts.md", "docs/decide.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
# Logs the runs of the page's MLflow example.
TREES = """\
import mlflow
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

x, y = load_digits(return_X_y=True)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("trees")
for trees, seed in ((trees, seed) for trees in (20, 80) for seed in range(10)):
    with mlflow.start_run():
        mlflow.log_params({"trees": trees, "seed": seed})
        model = RandomForestClassifier(trees, random_state=seed).fit(x[::2], y[::2])
        mlflow.log_metric("accuracy", model.score(x[1::2], y[1::2]))
"""
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[tuple[str, str]]:
    """Each command of a page, and the output below it."""
    found = []
    for kind, _, text in BLOCK.findall(page):
        if kind == "console":
            for part in text.split("$ ")[1:]:
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


@pytest.mark.parametrize(("name_of_page", "count"), [("README.md", 1), ("docs/verdicts.md", 2), ("docs/decide.md", 2)])
def test_every_example_prints_what_the_page_shows(
    name_of_page: str, count: int, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    page = PAGES[name_of_page]
    if "--mlflow trees" in page:
        shutil.copy(empty_database, tmp_path)  # MLflow would make the same one
        command.run_main(log_trees)
    for _, name, text in BLOCK.findall(page):
        if name and name not in ("github", "gitlab"):
            Path(name).write_text(text, encoding="utf-8")
    assert len(examples(page)) == count
    for line, output in examples(page):
        name, *arguments = shlex.split(line)
        if name == "python":
            answer = command.run_main(partial(run_script, arguments[0]))
        else:
            assert name == "many-seeds"
            answer = command.many_seeds(*arguments)
        assert answer.status == 0, answer.err
        assert answer.out == output, line


def run_script(path: str) -> None:
    runpy.run_path(path, run_name="__main__")


def log_trees() -> None:
    """Run `TREES` in this process, which has imported MLflow, and reset what it sets in MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "_tracking_uri", None)
        patch.setattr(fluent, "_active_experiment_id", None)
        exec(TREES, {})


@pytest.mark.parametrize(("design", "first"), [("open", 1), ("fixed", 4)])
def test_the_seeds_to_plan_are_those_of_the_interval(design: Design, first: int) -> None:
    numbers = np.arange(2, 1000)
    table = PAGES["docs/verdicts.md"].partition("## How many seeds to plan")[2]
    rows = re.findall(r"^\| ([\d.]+) \|(.*)\|$", table, re.MULTILINE)
    assert len(rows) == 4
    for difference, cells in rows:
        for questions, cell in zip((1, 5, 20), cells.split("|")[first - 1 : first + 2], strict=True):
            narrow = half_width(numbers, 0.05 / questions, design) < float(difference)
            assert int(cell) == numbers[narrow][0]


def test_the_python_example_of_the_readme_gives_the_verdict_that_it_shows() -> None:
    [code] = [text for kind, _, text in BLOCK.findall(PAGES["README.md"]) if "import many_seeds as ms" in text]
    names: dict[str, object] = {}
    exec(code, names)
    shown = re.findall(r"^(results\[.*?\]\.verdict)  # \"(\w+)\"$", code, re.MULTILINE)
    assert shown
    for expression, verdict in shown:
        assert eval(expression, names) == verdict
