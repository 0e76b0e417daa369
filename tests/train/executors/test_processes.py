"""Training in processes of this machine: the same bits, and no process that outlives its driver."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import joblib
import numpy as np
import psutil
import pytest

from many_seeds.errors import UserError
from stages.study import paths
from stages.study.params import Params
from stages.train import stage
from stages.train.executors import processes
from stages.train.run import Run
from stages.train.schedule import train_all
from tests.conftest import ROOT, STUDY
from tests.train.test_plan import planned
from tests.train.test_schedule import content_of

Digits = tuple[np.ndarray, np.ndarray]


def dies(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> NoReturn:
    os._exit(1)


def test_two_workers_have_the_results_of_one(
    evaluated: Path,
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The runs of `evaluated` were trained in this process, one after the other; these in two."""
    monkeypatch.setattr("stages.tracking.publisher.Publisher.publish", lambda *_: 0)
    before = {name: content for name, content in content_of(paths.MODELS).items() if not name.endswith("run.json")}
    variants = ["ridge", "random_features", "watched"]
    for variant in variants:
        for seed in (0, 1):
            (paths.run_path(variant, seed) / "run.json").unlink()
    monkeypatch.setenv("STUDY_WORKERS", "2")
    stage.train(study, variants, on_finish=lambda variant, seed: None)
    said = capfd.readouterr()
    assert "6 runs, 0 of them finished before" in said.out
    assert "[6/6]" in said.err
    assert "dev accuracy 0." in said.err
    after = {name: content for name, content in content_of(paths.MODELS).items() if not name.endswith("run.json")}
    assert after == before


def test_a_worker_that_is_killed_ends_in_a_message_that_says_what_to_do(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "2")
    with pytest.raises(UserError, match=r"a worker process died.*run `dvc repro`"):
        train_all(planned(study, "plain"), *digits, on_finish=lambda variant, seed: None, train=dies)


def test_the_number_of_workers_comes_from_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "3")
    assert processes.slots() == 3
    monkeypatch.delenv("STUDY_WORKERS")
    assert processes.slots() == joblib.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 2"])
def test_a_number_of_workers_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", text)
    with pytest.raises(UserError, match=f"STUDY_WORKERS should be a whole number from 1, received '{text}'"):
        processes.slots()


# The longest run starts first, and would train for hours beside the others.
LONG = STUDY.replace("<<: *plain\n    epochs: 3", "<<: *plain\n    seeds: 1\n    epochs: 1000000")
LONG = LONG.replace("patience: 2", "patience: null")


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


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_however_that_ends_and_what_had_finished_is_kept(
    signum: signal.Signals, workspace: Path
) -> None:
    (workspace / "params.yaml").write_text(LONG)
    with driver(STUDY_WORKERS="2") as process:
        assert len(of_session(process.pid)) >= 3
        stop(process, signum)
    assert list(paths.MODELS.glob("*/*/run.json"))


@pytest.mark.parametrize("worker", [1, 2])
def test_a_signal_that_comes_while_a_worker_is_started_is_heard_as_at_any_other_moment(
    worker: int, workspace: Path
) -> None:
    (workspace / "params.yaml").write_text(LONG)
    for _ in range(3):  # the moment is a few milliseconds long
        with driver("of them finished before", STUDY_WORKERS="2") as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while len(children.read_text().split()) < 2 + worker:  # the first two track resources
                pass
            stop(process, signal.SIGTERM)
