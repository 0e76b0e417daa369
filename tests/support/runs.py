"""Runs of the tests' study, damage to their files, and processes that train them."""

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
from stages.study.records.splits import read_images
from stages.train.plan import plan
from stages.train.run import Run
from tests.conftest import CLASSES, ROOT, STUDY

# A run of hours, which starts first.
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
    """`python -m stages.train --all` in a new session, after it has printed a text.

    Args:
        until: the text; by default one run is finished, and the longest is under way.
        **environment: environment variables.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train", "--all"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Ctrl-C has to work, even if the tests run in the background of a script, where it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            printed = []
            for line in process.stdout:
                printed.append(line)
                if until in line:
                    break
            assert until in printed[-1], printed
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    """Send a signal to a driver, or SIGINT to its session like a terminal, and check how its processes end."""
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    printed = process.communicate(timeout=60)[0].splitlines()  # by all of its processes
    if signum == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        # Python exits with the second status if the signal comes during an import.
        assert process.returncode in (130, -signal.SIGINT)
        assert printed[-1] == "stopped: what was finished is kept, and the same command goes on from there", printed
        assert not [line for line in printed[:-1] if not line.startswith("[")]
    assert of_session(process.pid) == []


def of_session(leader: int) -> list[str]:
    """The command lines of the processes in a session, without zombies, which have none."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.cmdline():
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
