"""`make setup`, with replacements of uv and Python that only record their calls."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests import ROOT

FILES = ["Makefile", "pyproject.toml", "requirements.lock", "dask.yaml"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".git").mkdir()
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("uv", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*, in $PWD" >> "{tmp_path}/called"\n')
        (programs / name).chmod(0o755)
    return tmp_path


def test_the_list_of_targets_fits_80_columns() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "`dvc metrics diff` with a verdict on each variant" in listed
    assert max(map(len, listed.splitlines())) <= 80


def setup(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "setup", "DEVICE=cpu"],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def installed(checkout: Path) -> int:
    """How often packages were installed."""
    called = checkout / "called"
    return called.read_text().count("uv pip install") if called.exists() else 0


def test_without_a_merge_driver_dvc_lock_gets_conflict_markers(tmp_path: Path) -> None:
    """As in a checkout that was moved after `make setup`. `git add --all` must not lose the stages of one side."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, check=arguments[0] != "merge")

    for name in ("Makefile", ".gitattributes"):
        shutil.copy(ROOT / name, tmp_path)
    git("init", "--quiet")
    git("config", "user.name", "A")
    git("config", "user.email", "a@example.org")
    subprocess.run(["make", "merging"], cwd=tmp_path, capture_output=True, check=True)
    lock = tmp_path / "dvc.lock"
    for branch, start in (("base", []), ("theirs", []), ("ours", ["base"])):
        git("switch", "--quiet", "--create", branch, *start)
        lock.write_text(f"stages: {branch}\n")
        git("add", "--all")
        git("commit", "--quiet", "--message", branch)
    git("merge", "theirs")
    assert lock.read_text().splitlines()[1::2] == ["stages: ours", "stages: theirs"]
    assert lock.read_text().startswith("<<<<<<<")


def test_a_date_in_the_future_does_not_install_again(checkout: Path) -> None:
    tomorrow = time.time() + 86_400
    for name in FILES:
        os.utime(checkout / name, (tomorrow, tomorrow))
    for _ in range(2):
        done = setup(checkout)
        assert done.returncode == 0, done.stderr
    assert installed(checkout) == 1


def test_other_locked_versions_are_installed(checkout: Path) -> None:
    setup(checkout)
    with (checkout / "requirements.lock").open("a") as file:
        file.write("another==1.0\n")
    setup(checkout)
    assert installed(checkout) == 2


def test_a_failed_installation_is_repeated(checkout: Path) -> None:
    uv = checkout / ".venv/bin/uv"
    content = uv.read_text()
    uv.write_text("#!/bin/sh\nexit 1\n")
    assert setup(checkout).returncode != 0
    uv.write_text(content)
    assert setup(checkout).returncode == 0
    assert installed(checkout) == 1


@pytest.mark.parametrize("home", ["", "/nowhere"])
def test_the_error_without_a_home_folder_has_the_solution(home: str, checkout: Path) -> None:
    (checkout / ".venv/bin/uv").unlink()  # as in a fresh clone
    refused = setup(checkout, HOME=home)
    assert refused.returncode != 0
    assert f"HOME should be a folder that you can write to, found '{home}'" in refused.stderr
    assert "HOME=/tmp/home make" in refused.stderr


def test_dvc_is_configured_for_folders_without_git(checkout: Path) -> None:
    setup(checkout)
    local = checkout / ".dvc/config.local"
    assert not local.exists()
    (checkout / ".git").rmdir()
    setup(checkout)
    assert "no_scm = true" in local.read_text()


def test_a_version_that_pip_changed_is_installed_again(checkout: Path) -> None:
    packages = checkout / ".venv/lib/python3.12/site-packages"
    (packages / "keras-3.15.1.dist-info").mkdir(parents=True)
    for _ in range(2):
        assert setup(checkout).returncode == 0
    assert installed(checkout) == 1
    (packages / "keras-3.15.1.dist-info").rename(packages / "keras-3.15.2.dist-info")
    assert setup(checkout).returncode == 0
    assert installed(checkout) == 2


@pytest.mark.parametrize("target", ["stale", "settle", "predict", "ui", "serve"])
def test_a_target_does_all_that_it_does_in_the_folder_that_in_names(target: str, checkout: Path) -> None:
    study = checkout / "build/demo"
    study.mkdir(parents=True)
    command = ["make", "-o", "setup", target, "IN=build/demo", "IMAGE=digit.png"]
    subprocess.run(command, cwd=checkout, capture_output=True, check=True)
    called = (checkout / "called").read_text().splitlines()
    assert called
    assert [line.rpartition(", in ")[2] for line in called] == [str(study)] * len(called)
    assert target != "predict" or f"{checkout}/digit.png" in called[0]


@pytest.mark.parametrize("name", ["my digit (1).png", "it's & more; 7.png", "../digit.png", "/elsewhere/digit.png"])
def test_predict_takes_an_image_of_any_name_relative_to_the_folder_of_make(name: str, checkout: Path) -> None:
    (checkout / "a study").mkdir()
    (checkout / ".venv/bin/python").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{checkout}/called"\n')
    command = ["make", "-o", "setup", "predict", "IN=a study", f"IMAGE={name}"]
    subprocess.run(command, cwd=checkout, capture_output=True, check=True)
    assert (checkout / "called").read_text().splitlines() == ["-m", "tools.serving.predict", str(checkout / name)]
