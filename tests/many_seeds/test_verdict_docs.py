"""The examples of the README and of two pages: their files are written, and their commands print what is shown."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from many_seeds.statistics.intervals import Design, half_width
from tests.conftest import ROOT

NAMES = ("README.md", "docs/verdicts.md", "docs/decide.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
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


@pytest.mark.parametrize(("name_of_page", "count"), [("README.md", 1), ("docs/verdicts.md", 5), ("docs/decide.md", 2)])
def test_every_example_prints_what_the_page_shows(name_of_page: str, count: int, tmp_path: Path) -> None:
    page = PAGES[name_of_page]
    for _, name, text in BLOCK.findall(page):
        if name and name != "gitlab":
            (tmp_path / name).write_text(text, encoding="utf-8")
    tools = {"many-seeds": [sys.executable, "-m", "many_seeds.commands.cli"], "python": [sys.executable]}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    assert len(examples(page)) == count
    for command, output in examples(page):
        name, *arguments = shlex.split(command)
        answer = subprocess.run(
            [*tools[name], *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout == output, command


@pytest.mark.parametrize(("design", "first"), [("open", 1), ("fixed", 4)])
def test_the_seeds_to_plan_are_those_of_the_interval(design: Design, first: int) -> None:
    numbers = np.arange(2, 1000)
    table = PAGES["docs/verdicts.md"].partition("## How many seeds to plan")[2]
    rows = re.findall(r"^\| ([\d.]+) \|(.*)\|$", table, re.MULTILINE)
    assert len(rows) == 7
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
