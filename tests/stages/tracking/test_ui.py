"""The last step of `make ui`: the addresses that it prints."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from stages.study import params
from stages.study.params import Params
from stages.tracking import address
from stages.tracking.publisher import Publisher
from tests.support.mlflow import client, free_port, mlflow_server, sqlite

UI = [sys.executable, "-m", "tools.ui"]


def test_the_ui_opens_the_view_of_the_approaches_and_ends_after_a_signal(
    evaluated: Path, study: Params, empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    Publisher(study).publish_variants(list(study.variants))
    port, opened, browser = free_port(), tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    experiment = client().get_experiment_by_name("digits").experiment_id
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning&"
    first = f"{page}viewStateShareKey=study-approaches"
    with subprocess.Popen(
        [*UI, "--port", str(port)],
        env={**os.environ, "BROWSER": str(browser)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as ui:
        assert ui.stdout is not None
        lines = []
        try:
            for line in ui.stdout:
                lines.append(line.rstrip())
                if line.startswith("  MLP: the seeds of watched"):
                    break
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200
            arguments = arguments_of_children(ui.pid)
            second = subprocess.run([*UI, "--port", str(port)], capture_output=True, text=True, check=False)
        finally:
            ui.send_signal(signal.SIGTERM)
        rest = ui.stdout.read()  # to its end: no process of the UI is left
    assert (ui.returncode, rest.splitlines()[1:]) == (0, [])  # except the last view
    assert any("mlflow ui" in line for line in arguments)
    assert any("uvicorn" in line for line in arguments)
    # The address of a database may have a password: it is in the environment, not in the arguments.
    assert not [line for line in arguments if "sqlite:" in line]
    assert not [line for line in lines if "URI not provided. Using sqlite" in line]
    assert f"Approaches: {first}" in lines
    assert any(line.startswith(f"  Variants, best validation accuracy first: {page}searchFilter=") for line in lines)
    assert opened.read_text().strip() == first
    assert second.returncode == 1
    assert f"error: port {port} is in use: choose another one" in second.stderr


def arguments_of_children(pid: int) -> list[str]:
    """The command lines of the child processes of a process."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # the browser, which has ended
            found.append(" ".join(process.cmdline()))
    return found


def test_with_the_address_of_a_server_its_pages_are_printed(
    evaluated: Path, study: Params, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite(empty_database) as store, mlflow_server(store, tmp_path / "artifacts") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server.replace('://', '://user:p%40ss@')}/")
        environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name and name != "BROWSER"}
        (tmp_path / "demo").mkdir()
        Path(params.PARAMS).rename(tmp_path / "demo" / params.PARAMS)
        answer = subprocess.run(
            [*UI, "--study", str(tmp_path / "demo")], capture_output=True, text=True, check=False, env=environment
        )
        experiment = client().get_experiment_by_name("digits").experiment_id
    assert answer.returncode == 0, answer.stderr
    page = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=study-approaches"
    assert f"Approaches: {page}" in answer.stdout
    assert "user:" not in answer.stdout  # links are shared


def test_a_server_that_is_down_is_an_error_of_one_line(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    answer = subprocess.run(UI, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "error: MLflow at http://127.0.0.1:" in answer.stderr
