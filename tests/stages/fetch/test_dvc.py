"""How DVC tracks data: changes of custom data, and the same bytes with any settings of git."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc.cli import main
from PIL import Image
from ruamel.yaml import YAML

from tests import ROOT
from tests.support.command import run_main

CUSTOM = {"name": "shapes", "format": "folders", "train": "own/shapes"}


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(folder: Path, *arguments: str) -> str:
    """What a command of DVC prints, run in this process: each new one imports DVC for seconds."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with contextlib.chdir(folder):
        done = run_main(lambda: sys.exit(main(list(arguments))), environment={"PATH": path, "DVC_NO_ANALYTICS": "1"})
    assert done.status == 0, done.out + done.err
    return done.out + done.err


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of the working tree as it is, without its results; tests must not change it."""
    folder = tmp_path_factory.mktemp("committed") / "clone"
    listed = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def split(committed: Path) -> Path:
    """The same with custom data, fetched and split, committed; tests must not change it."""
    folder = shutil.copytree(committed, committed.with_name("split"))
    for number in range(10):
        path = folder / "own/shapes" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)
    set_data(folder, CUSTOM)
    dvc(folder, "repro", "split")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "a")


def set_data(folder: Path, data: dict[str, str]) -> None:
    yaml = YAML(typ="safe")
    study = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump({**study, "data": data}, file)


def test_dvc_detects_a_changed_file_of_custom_data_and_ignores_the_readme_in_own(split: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(split, tmp_path / "clone")
    (clone / "own/README.md").write_text("other text", encoding="utf-8")
    assert "up to date" in dvc(clone, "status", "fetch", "split")
    assert run(clone, "git", "status", "--porcelain", "own/shapes") == "", "git should ignore custom data"
    before = (clone / "data/train.npz").read_bytes()
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(clone / "own/shapes/a/0.png")
    assert "modified:           own" in dvc(clone, "status", "fetch")
    dvc(clone, "repro", "split")
    assert (clone / "data/train.npz").read_bytes() != before


def test_a_clone_with_autocrlf_has_every_byte_of_the_original(
    split: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dvc")  # whatever another command in this process has set
    windows = tmp_path / "windows"
    run(tmp_path, "git", "clone", "--quiet", "--config", "core.autocrlf=true", str(split), "windows")
    for name in filter(None, run(split, "git", "ls-files", "-z").split("\0")):
        assert (windows / name).read_bytes() == (split / name).read_bytes(), name
    for name in ("data", "own/shapes"):
        shutil.copytree(split / name, windows / name)
    dvc(windows, "repro", "--dry", "--allow-missing", "split")
    assert caplog.text.count("didn't change, skipping") == 2


def test_what_is_added_below_own_is_pushed_and_pulled_with_everything_else(committed: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(committed, tmp_path / "clone")
    path = clone / "own/shapes/a/0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(path)
    dvc(clone, "add", "own/shapes")
    dvc(clone, "remote", "add", "--default", "disk", str(tmp_path / "remote"))
    dvc(clone, "push")
    commit(clone)
    run(tmp_path, "git", "clone", "--quiet", str(clone), "theirs")
    dvc(tmp_path / "theirs", "pull", "--allow-missing")
    assert (tmp_path / "theirs/own/shapes/a/0.png").read_bytes() == path.read_bytes()
