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
from tests.conftest import CLASSES, ROOT

# The command `python -m stages.train --all`, whose training needs no TensorFlow: the first run ends when another one is
# under way, and no other one ends. Nothing is published.
COMMAND = """
import os, sys
from functools import partial
from threading import Event
from types import SimpleNamespace
from stages.train import __main__ as command, stage
from stages.train.run import trained

begun = os.path.abspath("begun")
os.mkfifo(begun)

def train(run, images, labels, progress):
    with open(begun, "r" if run.name == "ridge seed 0" else "w"):  # waits for the other end
        pass
    if run.name != "ridge seed 0":
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("a worker was interrupted", flush=True)
    return trained(run, b"model", [], {"seconds": 0.0})

stage.train_all = partial(stage.train_all, train=train)
command.Publisher = lambda *_: SimpleNamespace(publish=lambda *run: 0)
sys.argv = ["train", "--all"]
"""


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
def driver(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """`COMMAND` in a new session, after one run is finished, while another is under way.

    Args:
        **environment: environment variables.
    """
    with started(COMMAND + "command.main()", **environment) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("[1/8]"):
                break
        assert printed[-1].startswith("[1/8]"), printed
        yield process


@contextlib.contextmanager
def started(program: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Python with a program in a new session, which is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Ctrl-C has to work, even if the tests run in the background of a script, where it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    """Send a signal to a driver, or SIGINT to its session like a terminal, and check how its processes end."""
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    check_end(process, signum)


def check_end(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    """Check how the processes of a driver end after a signal."""
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
