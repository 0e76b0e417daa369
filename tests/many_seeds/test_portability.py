"""The library elsewhere: without what Windows lacks, and with the oldest pandas."""

import subprocess
import sys
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.sources.tables import rows_where
from many_seeds.sources.text_files import read_table
from tests import ROOT

# NumPy, pandas and the standard library know their system; they are imported before it changes.
WINDOWS = """
import asyncio, concurrent.futures, os, select, signal, subprocess, sys, tempfile
import matplotlib.figure, pandas, scipy.special

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in (
    (signal, "SIGHUP SIGPIPE SIGKILL SIGALRM SIGUSR1 SIGUSR2 SIGCHLD pthread_kill pause setitimer"),
    (os, "fork getuid geteuid killpg setsid getpgid setpgid"),
    (select, "poll"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

import many_seeds as ms
from many_seeds.commands.cli import main

try:
    ms.decide(print, {"a": {}, "b": {}}, store="runs.csv")
except ms.UserError as error:
    print(error, flush=True)
sys.argv = ["many-seeds", "verdict", "scores.csv", "--wide", "--figure", "intervals.png"]
main()
"""


def test_scores_are_compared_without_what_windows_lacks(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("seed,a,b\n0,1,2\n1,2,4\n2,2,3\n")
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, _, table = done.stdout.partition("\n")
    assert refused.startswith("decide and many-seeds run need file locks of Linux or macOS")
    assert "undecided" in table
    assert (tmp_path / "intervals.png").exists()


def test_what_a_column_lacks_is_no_value_of_a_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text("variant,seed,data,score\na,0,,1\na,1,x,2\n")
    with pytest.raises(UserError, match="no row has data=nan"):  # which pandas 2 calls a missing cell
        rows_where(read_table("scores.csv", ["variant", "seed"]), ["data=nan"])
