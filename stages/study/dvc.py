"""DVC: its program in this Python environment, the content of dvc.lock, and the process that runs a stage."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from many_seeds.commands import console
from many_seeds.errors import UserError

LOCK = Path("dvc.lock")


def command(*arguments: str) -> list[str]:
    """The command line that runs `dvc` with these arguments.

    Raises:
        UserError: DVC is not installed.
    """
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise UserError(
            f"this needs DVC, expected as {program}: install this project with its extra `pipeline`, as `make setup` "
            "does"
        )
    return [str(program), *arguments]


def recorded(lock: Path = LOCK) -> dict[str, Any]:
    """The stages in dvc.lock.

    Args:
        lock: the path of dvc.lock.

    Returns:
        Stage → its command, dependencies, parameters and outputs, not to be changed; empty without the file.

    Raises:
        UserError: the file is damaged.
    """
    if not lock.exists():
        return {}
    return _stages(lock.read_text(encoding="utf-8", errors="replace"), str(lock))


@functools.lru_cache(maxsize=2)  # a command asks several times
def _stages(text: str, lock: str) -> dict[str, Any]:
    from stages.study import dvc_yaml  # imported here because most commands do not need it

    values = dvc_yaml.load(text, lock)
    stages = values.get("stages") if isinstance(values, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{lock} should have the key `stages`, received none: restore it with git")
    return stages


def when_gone(act: Callable[[], object]) -> None:
    """Call a function, in a thread, when the `dvc repro` that runs this process as a stage has ended for any reason.

    DVC starts the command of a stage in a shell. Some shells, like bash, are replaced by the command; others, like
    dash, wait for it.

    Args:
        act: the function.
    """
    started = psutil.Process()
    with contextlib.suppress(psutil.Error):  # the parent may have ended, or belong to another user
        shell = started.parent()
        if shell is not None and shell.cmdline()[:1] == [os.environ.get("SHELL") or "/bin/sh"]:
            started = shell

    def parent() -> int | None:
        try:
            return int(started.ppid())
        except psutil.NoSuchProcess:
            return None

    console.when_orphaned(act, started.ppid(), parent)
