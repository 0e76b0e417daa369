"""Runs of the tests' study, and what is done to their files and processes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from stages.study import paths
from stages.study.params import Params
from stages.study.splits import read_images
from stages.train.plan import plan
from stages.train.run import Run
from tests.conftest import CLASSES, ROOT, STUDY

# The longest run starts first, and would train for hours beside the others.
LONG = STUDY.replace("<<: *plain\n    epochs: 3", "<<: *plain\n    seeds: 1\n    epochs: 1000000")
LONG = LONG.replace("patience: 2", "patience: null")


def planned(study: Params, *variants: str) -> list[Run]:
    return plan(study, variants, *read_images(paths.TRAIN), CLASSES)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@contextlib.contextmanager
def driver(until: str = "[1/7]", **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m stages.train --all` in a session of its own, which has just said `until`.

    By default one run of it is finished and the longest under way.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train", "--all"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # As on a terminal: what a script starts with & has Ctrl-C ignored, and so would this, its descendant.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if until in line:
                    break
            assert until in said[-1], said
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    """Send a signal to a driver, or to its whole session as a terminal does at Ctrl-C, and see how it ends."""
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    said = process.communicate(timeout=60)[0].splitlines()  # of all of its processes, until they end
    if signum == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        # The second where it came while a string was executed, as in a library's import: Python's own word for it.
        assert process.returncode in (130, -signal.SIGINT)
        assert said[-1] == "stopped: what was finished is kept, and the same command goes on from there"
        assert not [line for line in said[:-1] if not line.startswith("[")]
    assert of_session(process.pid) == []


def of_session(leader: int) -> list[str]:
    """The command lines of a session's processes. One that is over has none, and may wait for its parent's word."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.cmdline():
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
