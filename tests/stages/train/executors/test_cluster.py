"""Training on a real Dask cluster: a scheduler and workers, each a process of its own, on this machine."""

import importlib.metadata
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import psutil
import pytest
from distributed import Client, Event, get_worker

from many_seeds.errors import UserError
from stages.study import files, paths
from stages.study.params import Params
from stages.train import __main__ as command
from stages.train import progress, stage
from stages.train.dispatch import train_all
from stages.train.executors import cluster as dask_cluster
from stages.train.run import Failed, Run, Trained, train_run, trained
from tests import ROOT
from tests.support.runs import COMMAND, driver, planned, started, stop

Digits = tuple[np.ndarray, np.ndarray]
FACTS = {"seconds": 0.0, "epochs": None, "dev_accuracy": None}
PACKAGES = str(Path(distributed.__file__).parents[1])


class Cluster:
    """A scheduler and workers, started by their commands, by name."""

    def __init__(self, folder: Path, python: tuple[str, ...] = (), **environment: str) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._start("scheduler", python, ["--host", "127.0.0.1", "--port", "0"], environment)
        with Client(scheduler_file=str(folder / "scheduler.json")) as client:
            self.address = client.scheduler.address

    def worker(
        self, name: str, *options: str, python: tuple[str, ...] = (), threads: int = 1, **environment: str
    ) -> None:
        place = ["--name", name, "--nthreads", str(threads), "--local-directory", str(self._folder)]
        self._start(name, python, [*place, *(options or ["--no-nanny"])], environment)

    def _start(self, name: str, python: tuple[str, ...], options: list[str], environment: dict[str, str]) -> None:
        program = "dask_scheduler" if name == "scheduler" else "dask_worker"
        options = ["--scheduler-file", str(self._folder / "scheduler.json"), "--no-dashboard", *options]
        # A worker sets its own number of threads, so the settings of the tests are not passed on.
        inherited = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
        self._processes[name] = subprocess.Popen(
            [sys.executable, *python, "-m", f"distributed.cli.{program}", *options],
            cwd=self._folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stderr=subprocess.DEVNULL,
        )

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        for name in reversed(list(self._processes)):  # the scheduler last: without one, workers end slowly
            self.kill(name)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers, for one test."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.worker("first")
    cluster.worker("second")
    with Client(cluster.address) as client:
        client.wait_for_workers(2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One worker with one thread, under a nanny.

    One death of a worker is enough for a run to fail, and only the run under way fails. By default, Dask would assign
    two of a few runs to the worker with the data, and both would fail.
    """
    cluster = Cluster(
        tmp_path_factory.mktemp("single"),
        DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0",
        DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION="1.0",
    )
    cluster.worker("phoenix", "--nanny")
    yield cluster
    cluster.close()


def results(folder: Path, *variants: str) -> dict[str, bytes]:
    """The files of all runs, run.json without its times."""
    found = {}
    for variant in variants:
        for path in sorted((folder / paths.MODELS / variant).glob("*/*")):
            facts = {**files.read_json(path), "started": 0, "seconds": 0} if path.suffix == ".json" else None
            found[f"{variant}/{path.parent.name}/{path.name}"] = (
                path.read_bytes() if facts is None else files.json_bytes(facts)
            )
    return found


def ignore(variant: str, seed: int) -> None:
    """Do nothing after a finished run."""


def test_a_cluster_has_the_results_of_one_machine_even_if_a_worker_is_killed(
    shared: Cluster,
    workspace: Path,
    evaluated_study: Path,
    study: Params,
    digits: Digits,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    variants = ["random_features", "watched"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]

        def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
            if "VICTIM" in os.environ:
                socket.create_connection(("127.0.0.1", port)).recv(1)  # blocks
            return train_run(run, images, labels, progress)

        kept: list[Path] = []

        def kill(variant: str, seed: int) -> None:
            kept.append(paths.run_path(variant, seed) / "model.keras")
            assert all(path.exists() for path in kept)
            if len(kept) == 1:
                at_work = server.accept()[0]
                shared.kill("victim")
                with at_work:
                    at_work.settimeout(60)
                    assert at_work.recv(1) == b""  # its training process ended, too

        shared.worker("victim", VICTIM="1")
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
        monkeypatch.setattr(progress, "LOG_SECONDS", 0)
        with Client(shared.address) as client:
            client.wait_for_workers(3)
        train_all(planned(study, *variants), *digits, on_finish=kill, train=train)
    assert results(workspace, *variants) == results(evaluated_study, *variants)
    printed = capfd.readouterr().err.splitlines()
    assert "under way: runs on 3 Dask workers" in printed
    # Otherwise only what a driver prints on one machine.
    assert {line.split(" ")[0] for line in printed} == {"under", *(f"[{i}/4]" for i in range(1, 5))}


def test_the_images_reach_every_worker_once(
    shared: Cluster, workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_worker(train: object, run: Run, trainer: object) -> Trained | Failed:
        Event(get_worker().name).set()
        both_at_work = all(Event(name).wait("60s") for name in ("first", "second"))
        return Trained(run, {}, FACTS) if both_at_work else Failed(run, "one worker got no run")

    def transfers(dask_worker: Any) -> int:
        return sum("_Trainer" in str(key) for entry in dask_worker.transfer_incoming_log for key in entry["keys"])

    monkeypatch.setattr(dask_cluster, "_train", on_worker)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
    with Client(shared.address) as client:
        before = sum(client.run(transfers).values())
        train_all(planned(study, *study.variants), *digits, on_finish=ignore)
        # One worker gets them from the driver, the other from the first worker.
        assert sum(client.run(transfers).values()) - before == 1


def test_a_worker_that_joins_later_trains_runs(
    shared: Cluster, workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_worker(train: object, run: Run, trainer: object) -> Trained | Failed:
        Event("begun").set()
        if get_worker().name == "added":
            Event("joined").set()
        elif not Event("joined").wait("60s"):
            return Failed(run, "the worker that joined got no run")
        return Trained(run, {}, FACTS)

    def add() -> None:
        with Client(shared.address, set_as_default=False) as client:
            assert Event("begun", client=client).wait("60s")
        shared.worker("added")

    monkeypatch.setattr(dask_cluster, "_train", on_worker)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(add)
        train_all(planned(study, "plain", "ridge"), *digits, on_finish=ignore)
        added.result()
    shared.kill("added")


LOGGED = """
from stages.train import progress

progress.LOG_SECONDS = 0
command.main()
"""


def test_a_driver_waits_for_workers_and_after_a_lost_scheduler_the_study_continues_where_it_stopped(
    shared: Cluster,
    empty: Cluster,
    workspace: Path,
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with started(COMMAND + LOGGED, DASK_SCHEDULER_ADDRESS=empty.address) as driver:
        assert driver.stdout is not None
        assert [driver.stdout.readline() for _ in range(3)] == [
            "8 runs, 0 of them finished before\n",
            f"Dask cluster at {empty.address}: 0 workers so far\n",
            "under way: none: every run waits for a Dask worker\n",
        ]
        empty.worker("late", threads=2)
        while (line := driver.stdout.readline()).startswith("under way: "):
            pass
        assert line.startswith("[1/8]")
        assert driver.stdout.readline() == "under way: runs on 1 Dask workers\n"
        empty.kill("scheduler")
        rest = driver.communicate(timeout=60)[0].splitlines()
    assert driver.returncode == 1
    assert rest[-1] == (
        f"error: the Dask scheduler at {empty.address} was lost or restarted. The finished runs are kept. Check that "
        "it and its workers are running, and run the same command again."
    )
    assert all(line.startswith("under way: ") for line in rest[:-1])
    (kept,) = paths.MODELS.glob("*/*/model.keras")
    inode = kept.stat().st_ino

    def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
        return trained(run, b"model", [], FACTS)

    monkeypatch.setattr(stage, "train_all", partial(train_all, train=train))
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
    stage.train(study, list(study.variants), on_finish=ignore)
    assert "8 runs, 1 of them finished before" in capfd.readouterr().out
    assert kept.stat().st_ino == inode
    assert len(list(paths.MODELS.glob("*/*/model.keras"))) == 8


def test_a_run_that_kills_its_workers_fails_alone(
    single: Cluster, workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only worker dies, and the data with it; its nanny starts another one."""

    def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
        if run.name == "plain seed 0":
            os.kill(os.getppid(), signal.SIGKILL)
        assert images.shape == (1437, 28, 28)
        return Trained(run, {"model.keras": b"model"}, FACTS)

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", single.address)
    with pytest.raises(UserError) as error:
        train_all(planned(study, "plain"), *digits, on_finish=ignore, train=train)
    assert "1 of 2 runs failed; the others are kept" in str(error.value)
    assert "plain seed 0: 1 Dask workers died with it, the last at tcp://127.0.0.1:" in str(error.value)
    assert [str(path) for path in paths.MODELS.glob("*/*")] == ["models/plain/1"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_training_processes_of_a_cluster_end_with_their_driver(
    signum: signal.Signals, shared: Cluster, workspace: Path
) -> None:
    with driver(DASK_SCHEDULER_ADDRESS=shared.address) as process:
        children = [child for name in ("first", "second") for child in psutil.Process(shared.pid(name)).children()]
        training = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(training) == 2
        stop(process, signum)
        assert psutil.wait_procs(training, timeout=60)[1] == []


def test_a_run_that_raises_or_kills_its_process_fails_alone(
    shared: Cluster, workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
        if run.name == "plain seed 0":
            raise MemoryError("too large")
        if run.name == "ridge seed 0":
            os._exit(1)
        return Trained(run, {"model.keras": b"model"}, FACTS)

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
    with pytest.raises(UserError) as error:
        train_all(planned(study, "plain", "ridge"), *digits, on_finish=ignore, train=train)
    first, *failed = str(error.value).splitlines()
    assert first == "2 of 4 runs failed; the others are kept:"
    raised, died = sorted(failed)
    assert raised == "  plain seed 0: MemoryError: too large"
    assert died.startswith("  ridge seed 0: its process on Dask worker tcp://127.0.0.1:")
    assert died.endswith(" died: out of memory, or killed")
    assert sorted(str(path) for path in paths.MODELS.glob("*/*")) == ["models/plain/1", "models/ridge/1"]


def test_a_process_that_has_grown_is_replaced_and_all_end_with_the_study(
    single: Cluster, workspace: Path, digits: Digits, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        connections: list[socket.socket] = []

        def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
            socket.create_connection(("127.0.0.1", port)).detach()  # open until the process ends
            setattr(sys, f"kept by {run.name}", np.ones(20_000_000))  # 160 MB, also until then
            return Trained(run, {"run.json": str(os.getpid()).encode()}, FACTS)

        def accept(variant: str, seed: int) -> None:
            connections.append(server.accept()[0])

        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", single.address)
        train_all(planned(study, "plain", "ridge"), *digits, on_finish=accept, train=train)
        for connection in connections:
            with connection:
                connection.settimeout(60)
                assert connection.recv(1) == b""  # its process ended
    processes = [path.read_text() for path in paths.MODELS.glob("*/*/run.json")]
    assert sorted(processes.count(process) for process in set(processes)) == [1, 3]


def test_a_training_process_reuses_freed_memory(
    single: Cluster, workspace: Path, digits: Digits, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's workers return freed memory to the system at once, which is slow: the system clears every new page."""

    def train(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            np.ones(125_000)  # 1 MB, like a tensor of a training step
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return Trained(run, {"run.json": str(faults).encode()}, FACTS)

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", single.address)
    train_all(planned(study, "plain"), *digits, on_finish=ignore, train=train)
    faults = [int(path.read_text()) for path in paths.MODELS.glob("*/*/run.json")]
    assert len(faults) == 2
    assert max(faults) < 10 * 1e6 / resource.getpagesize()  # of 100 MB at most 10 are new


def test_no_run_waits_behind_another_while_a_worker_is_free(
    shared: Cluster, workspace: Path, digits: Digits, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", shared.address)
    finished: list[str] = []
    runs = planned(study, "plain", "ridge")

    def on_worker(train: object, run: Run, trainer: object) -> Trained | Failed:
        if run.name == runs[0].name and not Event("others").wait("60s"):
            return Failed(run, "the other runs waited for this one")
        return Trained(run, {}, FACTS)

    def on_finish(variant: str, seed: int) -> None:
        finished.append(f"{variant} seed {seed}")
        if len(finished) == len(runs) - 1:
            Event("others", client=client).set()

    monkeypatch.setattr(dask_cluster, "_train", on_worker)
    with Client(shared.address, set_as_default=False) as client:
        train_all(runs, *digits, on_finish=on_finish)
    assert finished == [run.name for run in [*runs[1:], runs[0]]]  # the others in order


@pytest.fixture
def other_keras(tmp_path: Path) -> str:
    """A value of PYTHONPATH with another version of Keras."""
    metadata = tmp_path / "versions" / "keras-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: keras\nVersion: 0.1\n")
    return f"{metadata.parents[1]}:{ROOT}"


@pytest.fixture
def other_code(tmp_path: Path) -> str:
    """A copy of the project with an edit in a module that decides results."""
    for package in ("many_seeds", "stages"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package)
    with (tmp_path / "code/stages/recipes/network.py").open("a") as file:
        file.write("MORE = 1\n")
    return str(tmp_path / "code")


def test_workers_with_other_packages_or_code_are_refused_and_fail_their_runs_if_they_join_later(
    empty: Cluster,
    other_keras: str,
    other_code: str,
    workspace: Path,
    study: Params,
    digits: Digits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_on_worker = dask_cluster._train

    def on_worker(train: Any, run: Run, trainer: Any) -> Trained | Failed:
        Event(get_worker().name).set()
        both_at_work = all(Event(name).wait("60s") for name in ("versions", "code"))
        return train_on_worker(train, run, trainer) if both_at_work else Failed(run, "one worker got no run")

    versions = f"keras 0.1 there, {importlib.metadata.version('keras')} here"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", empty.address)
    empty.worker("versions", PYTHONPATH=other_keras)
    empty.worker("code", PYTHONPATH=other_code)
    with Client(empty.address) as client, monkeypatch.context() as patch:
        client.wait_for_workers(2)
        patch.setattr(dask_cluster, "_check", lambda *_: None)  # the workers join after it
        patch.setattr(dask_cluster, "_train", on_worker)
        with pytest.raises(UserError) as error:
            train_all(planned(study, "plain"), *digits, on_finish=ignore)
    message = str(error.value)
    assert message.startswith("2 of 2 runs failed")
    assert re.search(rf"plain seed \d: .*{versions}", message), message
    assert re.search(r"plain seed \d: other code for network runs on a Dask worker", message), message

    empty.worker("fits")
    empty.worker("bare", python=("-S",), PYTHONPATH=PACKAGES)
    with Client(empty.address) as client:
        client.wait_for_workers(4)
    monkeypatch.setattr(sys, "argv", ["train", "--all"])
    with pytest.raises(SystemExit) as end:
        command.main()
    first, *refused, last = str(end.value.code).splitlines()
    assert first == "error: 3 of 4 Dask workers can't train this study:"
    reasons = sorted(line.split(": ", maxsplit=1)[1] for line in refused)
    assert reasons == [
        "ModuleNotFoundError(\"No module named 'stages'\")",
        versions,
        "other code for network runs there",
    ]
    assert "docs/clusters.md. Nothing was trained" in last
    assert not paths.MODELS.exists()


def test_a_scheduler_without_the_project_is_refused(
    tmp_path: Path, workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(tmp_path, python=("-S",), PYTHONPATH=PACKAGES)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    try:
        with pytest.raises(UserError, match=r"scheduler at tcp.* lacks the project \(No module named 'stages'\)"):
            train_all(planned(study, "plain"), *digits, on_finish=ignore)
    finally:
        cluster.close()


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a program that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A reserved port at which no program listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:{closed}", "Timed out trying to connect"),
        ("tcp://127.0.0.1:{listening}", "the program at this address is no Dask scheduler"),
        ("nonsense", "missing port number in address 'nonsense'"),
        ("udp://127.0.0.1:8786", "unknown address scheme 'udp'"),
        ("tls://127.0.0.1:8786", "TLS expects"),
    ],
)
def test_an_address_without_a_scheduler_is_refused(
    address: str, reason: str, closed: int, listening: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.5)
    address = address.format(closed=closed, listening=listening)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setattr(sys, "argv", ["train", "--all"])
    with pytest.raises(SystemExit) as end:
        command.main()
    message = str(end.value.code)
    assert message.startswith(f"error: no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={address} ({reason}")
    assert "Expected tcp://host:port of a running `dask scheduler`" in message


@pytest.mark.parametrize("address", [None, ""])
def test_the_executor_dask_without_an_address_asks_for_it(
    address: str | None, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_EXECUTOR", "dask")
    if address is not None:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setattr(sys, "argv", ["train", "--all"])
    with pytest.raises(SystemExit, match=r"STUDY_EXECUTOR=dask needs DASK_SCHEDULER_ADDRESS, .* received none: set it"):
        command.main()


def test_without_dask_the_error_has_the_command_that_installs_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
    monkeypatch.delitem(sys.modules, "stages.train.executors.cluster")
    monkeypatch.delattr("stages.train.executors.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr(sys, "argv", ["train", "--all"])
    with pytest.raises(
        SystemExit, match=r"the executor dask needs packages .*distributed.*: pip install -e '\.\[cluster\]'"
    ):
        command.main()
