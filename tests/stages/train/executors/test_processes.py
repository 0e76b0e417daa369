"""Training in processes on this machine: the same bits, and processes that end with their driver."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import joblib
import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.study import paths
from stages.study.params import Params
from stages.train import stage
from stages.train.dispatch import train_all
from stages.train.executors import processes
from stages.train.run import Run, Trained, trained
from tests import ROOT
from tests.support.runs import COMMAND, check_end, content_of, driver, of_session, planned, started, stop

Digits = tuple[np.ndarray, np.ndarray]


def dies(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> NoReturn:
    os._exit(1)


def test_two_workers_give_the_results_of_one(
    evaluated: Path,
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The runs of `evaluated` were trained in this process, one after the other; these in two."""
    monkeypatch.setattr("stages.tracking.publisher.Publisher.publish", lambda *_: 0)
    before = {name: content for name, content in content_of(paths.MODELS).items() if not name.endswith("run.json")}
    variants = ["random_features", "watched"]
    for variant in variants:
        for seed in (0, 1):
            (paths.run_path(variant, seed) / "run.json").unlink()
    monkeypatch.setenv("STUDY_WORKERS", "2")
    stage.train(study, variants, on_finish=lambda variant, seed: None)
    printed = capfd.readouterr()
    assert "4 runs, 0 of them finished before" in printed.out
    assert "[4/4]" in printed.err
    assert "validation accuracy 0." in printed.err
    after = {name: content for name, content in content_of(paths.MODELS).items() if not name.endswith("run.json")}
    assert after == before


def test_the_error_for_a_killed_worker_has_the_command_to_run(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "2")
    with pytest.raises(UserError, match=r"a worker process died.*run `dvc repro`"):
        train_all(planned(study, "plain"), *digits, on_finish=lambda variant, seed: None, train=dies)


def in_its_process(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained:
    return trained(run, str(os.getpid()).encode(), [], {"seconds": 0.0})


def test_a_single_run_has_a_process_of_its_own_where_this_one_has_another_backend(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside batched seeds, which set the backend of this process."""
    [run, _] = planned(study, "plain")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with processes.training([run], *digits, in_its_process) as (results, _):
        [result] = results
    assert isinstance(result, Trained)
    assert result.files["model.keras"] != str(os.getpid()).encode()


def test_the_number_of_workers_comes_from_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "3")
    assert processes.slots() == 3
    monkeypatch.delenv("STUDY_WORKERS")
    assert processes.slots() == joblib.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 2"])
def test_an_invalid_number_of_workers_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", text)
    with pytest.raises(UserError, match=f"STUDY_WORKERS should be a whole number from 1, received '{text}'"):
        processes.slots()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_and_finished_runs_are_kept(signum: signal.Signals, workspace: Path) -> None:
    """SIGTERM acts like SIGINT, which the workers get, too."""
    with driver(STUDY_WORKERS="2") as process:
        assert len(of_session(process.pid)) >= 3
        stop(process, signum)
    assert list(paths.MODELS.glob("*/*/run.json"))


def test_locks_that_a_killed_worker_leaves_behind_cause_no_warning(workspace: Path) -> None:
    program = """
from types import SimpleNamespace
import numpy as np
from joblib.externals.loky.backend import resource_tracker
from stages.train.executors import processes

def train(run, images, labels, progress):
    return run

images = np.zeros((1, 1, 1), np.uint8)
run = SimpleNamespace(name="run", versions={"tensorflow": "2"})
with processes.training([run], images, images[0, 0], train) as (results, _):
    list(results)
    resource_tracker.register("/loky-of-a-killed-worker", "semlock")
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


STARTS = """
import signal
from joblib.externals.loky.backend import fork_exec as module

fork_exec = module.fork_exec

def fork_exec_and_signal(*args, **named):
    pid = fork_exec(*args, **named)
    os.kill(os.getpid(), signal.SIGTERM)
    return pid

module.fork_exec = fork_exec_and_signal
command.main()
"""


def test_a_signal_is_handled_while_a_worker_starts(workspace: Path) -> None:
    """It comes when the process of a worker is there, and has not received a task yet."""
    with started(COMMAND + STARTS, STUDY_WORKERS="2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "8 runs, 0 of them finished before\n"
        check_end(process, signal.SIGTERM)


DEVICES = """
import os
from types import SimpleNamespace

if os.environ["STUDY_WORKERS"] == "1":
    import jax

    jax.config.update("jax_default_device", jax.devices("cpu")[1])  # as if this were a GPU

import numpy as np
from stages.train.executors import processes

def train(run, images, labels, progress):
    if run.name == "another":  # so that there are two workers
        return ""
    import jax

    device, = jax.numpy.zeros(1).devices()
    return f"{device} {jax.config.jax_platforms} {os.environ['KERAS_BACKEND']}"

images = np.zeros((1, 1, 1), np.uint8)
runs = [SimpleNamespace(name=name, versions={os.environ["PLANNED"]: "1"}) for name in ("one", "another")]
os.environ["KERAS_BACKEND"] = "jax"  # as batched seeds set it, after the runs were planned
with processes.training(runs, images, images[0, 0], train) as (results, _):
    print("".join(results))
"""


def devices(**settings: str) -> str:
    """The device, the platforms and the Keras backend of a run whose driver sees two devices."""
    settings |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", DEVICES], env=os.environ | settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_runs_in_the_driver_train_on_the_processor_where_jax_has_another_device() -> None:
    """run.json records the device "cpu"."""
    assert devices(STUDY_WORKERS="1", PLANNED="jax", JAX_PLATFORMS="cpu") == "cpu:0 cpu jax"


def test_workers_use_the_processor_and_the_keras_backend_of_their_runs_whatever_the_driver_uses() -> None:
    """As beside batched seeds on a GPU."""
    assert devices(STUDY_WORKERS="2", PLANNED="tensorflow", JAX_PLATFORMS="cuda,cpu") == "cpu:0 cpu tensorflow"
