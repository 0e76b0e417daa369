"""A study published to a real MLflow server, on PostgreSQL if it is installed."""

import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from stages.study import paths
from stages.study.params import Params
from stages.tracking import claims
from stages.tracking import client as connection
from stages.tracking.address import KEY
from stages.tracking.publisher import Publisher
from tests.support.command import run_main
from tests.support.mlflow import (
    client,
    content,
    mlflow_server,
    postgresql,
    postgresql_programs,
    proxy,
    runs,
    sqlite,
)
from tools import ui
from tools.serving import server as serve
from tools.serving.register import main as register

PUBLISH = [sys.executable, "-m", "stages.tracking"]


@pytest.fixture(scope="module")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server without experiments."""
    opened = postgresql() if postgresql_programs() else sqlite(empty_database)
    with opened as store, mlflow_server(store, tmp_path_factory.mktemp("artifacts")) as address:
        yield address


@pytest.fixture
def empty_server(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server, which is the tracking URI; the test's experiment is renamed and deleted afterwards."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    yield server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    if experiment := client().get_experiment_by_name("digits"):
        client().rename_experiment(experiment.experiment_id, f"of a test {experiment.experiment_id}")


def files_of(run: Any) -> set[str]:
    return {file.path for file in client().list_artifacts(run.info.run_id)}


def test_a_server_holds_every_run_and_file_and_two_publishers_at_once_add_nothing(
    published: Path,
    server: str,
    study: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    local = content()
    request.getfixturevalue("empty_server")
    both = [subprocess.Popen(PUBLISH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert content() == local
    keys = [run.data.tags[KEY] for run in runs()]
    assert len(keys) == len(set(keys)) == len(local)
    [run] = [run for run in runs() if run.info.run_name == "watched seed 1"]
    copy = client().download_artifacts(run.info.run_id, "model.keras", str(tmp_path))
    assert Path(copy).read_bytes() == (paths.run_path("watched", 1) / "model.keras").read_bytes()
    assert Publisher(study).publish_variants(list(study.variants)) == 0


def test_a_run_that_another_machine_is_publishing_is_left_to_it(
    evaluated: Path, empty_server: str, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, others = mlflow.MlflowClient.log_artifact, []

    def publish_elsewhere(*arguments: Any) -> None:
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setattr(mlflow.MlflowClient, "log_artifact", upload)
            elsewhere.setattr(platform, "node", lambda: "another")
            elsewhere.setattr(tempfile, "tempdir", str(tmp_path))  # the lock of publishers on one machine
            others.append(Publisher(study).publish("watched", 0))
        upload(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_artifact", publish_elsewhere)
        first = Publisher(study)
        assert first.publish("watched", 0) == 1
    assert not first.failed
    assert others == [0, 0]  # model.keras and run.json
    [run] = [run for run in runs() if run.info.run_name == "watched seed 0"]
    assert (run.info.status, files_of(run)) == ("FINISHED", {"model.keras", "run.json"})
    # A machine that failed in the middle of it keeps the run for some minutes.
    client().update_run(run.info.run_id, status="RUNNING")
    client().set_tag(run.info.run_id, claims.PUBLISHER, "another 1700000000")
    assert Publisher(study).publish("watched", 0) == 1
    [run] = [run for run in runs() if run.info.run_name == "watched seed 0"]
    assert run.info.status == "FINISHED"


def test_runs_that_another_machine_publishes_meanwhile_are_not_published_again(
    evaluated: Path, empty_server: str, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, others = mlflow.MlflowClient.log_artifact, []

    def publish_elsewhere(*arguments: Any) -> None:
        monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", upload)
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setattr(platform, "node", lambda: "another")
            elsewhere.setattr(tempfile, "tempdir", str(tmp_path))  # the lock of publishers on one machine
            others.append(Publisher(study).publish_variants(["plain", "watched"]))
        upload(*arguments)

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", publish_elsewhere)
    Publisher(study).publish_variants(["plain", "watched"])
    assert others == [5]  # all but the run that is being published; the means of both variants are changes
    names = [run.info.run_name for run in runs()]
    assert sorted(names) == ["plain", "plain seed 0", "plain seed 1", "watched", "watched seed 0", "watched seed 1"]
    assert {run.info.status for run in runs()} == {"FINISHED"}


def test_files_that_a_proxy_refuses_as_too_large_are_named_and_published_when_it_accepts_them(
    aggregated: Path,
    empty_server: str,
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = sorted(path.stat().st_size for path in paths.MODELS.glob("watched/*/model.keras"))
    limit = [sizes[0] - 1]

    def limited(path: str, length: int) -> tuple[int, bytes] | None:
        return (413, b"<html>413 Request Entity Too Large</html>") if length > limit[0] else None

    def of(name: str) -> Any:
        [run] = [run for run in runs() if run.info.run_name == name]
        return run

    with proxy(empty_server, limited) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        publisher = Publisher(study)
        publisher.publish_all()
        printed = capsys.readouterr().err
        assert not publisher.failed
        assert f"larger than {address} accepts (HTTP status 413)" in printed
        assert "report.html" in printed
        assert "client_max_body_size" in printed
        assert files_of(of("watched seed 0")) == {"run.json"}
        assert "larger than the server accepts" in of("watched seed 0").data.tags["mlflow.note.content"]
        assert of("watched seed 0").data.metrics["test_accuracy"] > 0
        assert "report.html" not in files_of(of("study"))
        registering = run_main(register)
        assert registering.status == 1
        message = rf"error: the model is not registered: \S+ \(\d\.\d MB\), larger than {address} accepts .*make ui`\."
        assert re.fullmatch(message, registering.err.splitlines()[-1])
        limit[0] = 10**9
        assert Publisher(study).publish_all() > 0
        assert capsys.readouterr().err == ""
        assert files_of(of("watched seed 0")) == {"model.keras", "run.json"}
        assert "report.html" in files_of(of("study"))
        assert Publisher(study).publish_all() == 0


def test_a_database_that_does_not_answer_is_an_error_after_seconds(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "DATABASE_SECONDS", 2)  # the minimum of PostgreSQL's client library
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql+psycopg://study:p%40ss@127.0.0.1:{silent.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        publisher = Publisher(study)
        publisher.publish("plain", 0)
        printed = capsys.readouterr().err
        failed = run_main(register)
    shown = uri.replace("study:p%40ss", "***")
    assert f"nothing more is published: the database {shown} does not answer" in printed
    assert "p%40ss" not in printed
    assert failed.status == 1
    assert f"error: the database {shown} does not answer" in failed.err


@pytest.mark.parametrize(
    "database", ["postgresql+nosuch://study:p%40ss@127.0.0.1/mlflow", "postgresql://study:p%40ss@127.0.0.1:port/mlflow"]
)
@pytest.mark.parametrize("main", [register, serve.main, ui.main], ids=["register", "serve", "ui"])
def test_a_database_uri_that_can_not_be_used_is_an_error_of_one_line(
    main: Callable[[], None], database: str, workspace: Path
) -> None:
    failed = run_main(main, environment={"MLFLOW_TRACKING_URI": database})
    assert failed.status == 1
    assert f"error: the database {database.replace('study:p%40ss', '***')} can't be used (" in failed.err
    assert "MLFLOW_TRACKING_URI" in failed.err
    assert "Traceback" not in failed.err


def test_a_database_whose_driver_is_not_installed_is_an_error_that_names_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)  # importing it fails
    failed = run_main(register, environment={"MLFLOW_TRACKING_URI": "postgresql+psycopg2://127.0.0.1/mlflow"})
    assert failed.status == 1
    assert "psycopg2" in failed.err.partition("can't be used (")[2]
    assert "whether the driver that it names is installed" in failed.err
