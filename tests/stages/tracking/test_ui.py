"""The last step of `make ui`: the addresses that it prints."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.command import run_main
from tests.support.mlflow import client, free_port, proxy
from tools.ui import main

UI = [sys.executable, "-m", "tools.ui"]


def test_the_ui_opens_the_view_of_the_approaches_and_ends_after_a_signal(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    port, opened, browser = free_port(), tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    experiment = client().get_experiment_by_name("digits").experiment_id
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning&"
    first = f"{page}viewStateShareKey=study-approaches"
    with (
        recording_proxy() as (proxied, requested),
        subprocess.Popen(
            [*UI, "--port", str(port)],
            env={**os.environ, "BROWSER": str(browser), "http_proxy": proxied},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as ui,
    ):
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
            second = run_main(main, "--port", str(port))
        finally:
            ui.send_signal(signal.SIGTERM)
        rest = ui.stdout.read()  # to its end: no process of the UI is left
    assert (ui.returncode, rest.splitlines()[1:]) == (0, [])  # except the last view
    assert any("mlflow ui" in line for line in arguments)
    assert any("uvicorn" in line for line in arguments)
    # The address of a database may have a password: it is in the environment, not in the arguments.
    assert not [line for line in arguments if "sqlite:" in line]
    assert not [line for line in lines if "URI not provided. Using sqlite" in line]
    assert not [address for address in requested if "127.0.0.1" in address]  # which a proxy can't reach
    assert f"Approaches: {first}" in lines
    assert any(line.startswith(f"  Variants, best validation accuracy first: {page}searchFilter=") for line in lines)
    assert opened.read_text().strip() == first
    assert second.status == 1
    assert f"error: port {port} is in use: choose another one" in second.err


@contextlib.contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a proxy that answers every request itself, and the addresses that were requested from it."""
    requested: list[str] = []

    def own_answer(path: str, length: int) -> tuple[int, bytes]:
        requested.append(path)
        return 200, b""

    with proxy("", own_answer) as address:
        yield address, requested


def arguments_of_children(pid: int) -> list[str]:
    """The command lines of the child processes of a process."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # the browser, which has ended
            found.append(" ".join(process.cmdline()))
    return found


def test_a_server_that_is_down_is_an_error_of_one_line(workspace: Path) -> None:
    answer = run_main(main, environment={"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"})
    assert answer.status == 1
    assert "Traceback" not in answer.err
    assert "error: MLflow at http://127.0.0.1:" in answer.err
