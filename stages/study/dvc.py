"""DVC: its program in the environment that this runs in, what it has recorded, and whether it still runs."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from many_seeds import console
from many_seeds.errors import UserError
from stages.study import files

LOCK = Path("dvc.lock")


def command(*arguments: str) -> list[str]:
    """What runs `dvc` with these arguments.

    Raises:
        UserError: it is not installed.
    """
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise UserError(
            f"this needs DVC, expected as {program}: install this project with its extra `pipeline`, as `make setup` "
            "does"
        )
    return [str(program), *arguments]


def recorded(lock: Path = LOCK) -> dict[str, Any]:
    """What DVC has recorded of each stage's last run; nothing where there is no lock yet.

    Raises:
        UserError: the file is damaged.
    """
    if not lock.exists():
        return {}
    values = files.yaml_values(lock.read_text(encoding="utf-8", errors="replace"), str(lock))
    stages = values.get("stages") if isinstance(values, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{lock} should have the stages that DVC has run, found none: restore it with git")
    return stages


def when_gone(act: Callable[[], object]) -> None:
    """Call `act`, in a thread, once the `dvc repro` that runs this process as a stage has ended, in whatever way.

    DVC has a shell start a stage's command. Some shells, like bash, leave it their place, and others, like dash, wait.
    """
    started = psutil.Process()
    with contextlib.suppress(psutil.Error):  # the parent may have ended, or be hidden as another person's
        shell = started.parent()
        if shell is not None and shell.cmdline()[:1] == [os.environ.get("SHELL") or "/bin/sh"]:
            started = shell

    def parent() -> int | None:
        try:
            return int(started.ppid())
        except psutil.NoSuchProcess:
            return None

    console.when_orphaned(act, started.ppid(), parent)
