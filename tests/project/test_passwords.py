"""No command prints the password of a URL or passes it to a process as an argument, not even in errors."""

import base64
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.params import Params
from stages.tracking import address
from stages.tracking.publisher import Publisher
from tests.support.command import run_main
from tests.support.mlflow import client, free_port
from tools import ui

LOGIN = "user:p%40ss"
Run = Callable[..., tuple[int, str]]
FORMS = ("p%40ss", "p@ss", base64.b64encode(b"user:p@ss").decode())


@dataclass
class Refusing:
    """A server that answers every request with an error that contains the URL and the received password.

    Attributes:
        port: its port on 127.0.0.1.
        status: the HTTP status of its responses.
        headers: the header Authorization of each request.
    """

    port: int
    status: int
    headers: list[str | None] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{LOGIN}@127.0.0.1:{self.port}"


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            server.headers.append(self.headers["Authorization"])
            sent = f"{server.address}{self.path} was refused: user, p@ss, {self.headers['Authorization']}"
            body = files.json_bytes({"error_code": "REFUSED", "message": sent})
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:  # the same
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Refusing(http.server_port, 401)
        Thread(target=http.serve_forever, daemon=True).start()
        yield server
        http.shutdown()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command of this project in this process and checks that it prints no password.

    It returns the exit status and the output.
    """

    def run(module: str, *arguments: str, **environment: str) -> tuple[int, str]:
        settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "STUDY_WORKERS": "1"}
        done = run_main(importlib.import_module(module).main, *arguments, environment=settings | environment)
        printed = "".join([done.out, done.err, *capfd.readouterr()])
        assert_no_password(printed)
        return done.status, printed

    return run


def assert_no_password(printed: str) -> None:
    assert not [form for form in FORMS if form in printed], printed


@pytest.mark.parametrize(
    ("command", "http_status", "status", "expected"),
    [
        (["stages.tracking.__main__"], 500, 1, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (["tools.ui"], 401, 1, "error: MLflow at http://127.0.0.1:{port} can't be asked"),
        (
            ["tools.serving.register"],
            401,
            1,
            "error: the model is not registered: MLflow at http://127.0.0.1:{port} reports",
        ),
        (["tools.serving.server"], 401, 1, "error: there is no models:/digits@champion at http://127.0.0.1:{port}"),
        (["stages.train.__main__", "ridge"], 401, 0, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (["stages.aggregate.__main__"], 401, 0, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (
            ["many_seeds.commands.cli", "verdict", "--mlflow", "x"],
            401,
            2,
            "error: MLflow at http://127.0.0.1:{port} did not",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_errors_of_a_server_are_printed_without_the_password(
    command: list[str],
    http_status: int,
    status: int,
    expected: str,
    aggregated: Path,
    refusing: Refusing,
    run: Run,
    tensorflow_ready: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing.status = http_status
    if "train" in command[0]:
        shutil.rmtree(paths.run_path("ridge", 0))  # so that it is trained and published
    monkeypatch.setattr("stages.train.__main__.DELAY", 0)  # the run is published although its training is short
    monkeypatch.setattr("stages.aggregate.__main__.aggregate", lambda study: None)  # the report is here
    returned, printed = run(*command, MLFLOW_TRACKING_URI=refusing.address, MLFLOW_TRACKING_USERNAME="another user")
    assert (returned, expected.format(port=refusing.port) in printed) == (status, True), printed
    assert set(refusing.headers) == {f"Basic {FORMS[-1]}"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://user:p%40ss@127.0.0.1:1", "MLflow at http://127.0.0.1:1 can't"),
        ("http://user:p/p@ss@127.0.0.1:1", "MLflow at http://***@127.0.0.1:1 can't"),  # not escaped
        ("postgresql+nosuch://user:p%40ss@127.0.0.1:1/db", "the database postgresql+nosuch://***@127.0.0.1:1/db can't"),
    ],
)
def test_errors_for_unreachable_servers_have_no_password(
    address: str, expected: str, workspace: Path, run: Run
) -> None:
    status, printed = run("stages.tracking.__main__", MLFLOW_TRACKING_URI=address)
    assert (status, expected in printed) == (1, True), printed


def test_errors_of_downloads_have_no_password_of_a_mirror_a_url_or_a_proxy(
    workspace: Path, refusing: Refusing, run: Run
) -> None:
    """All other requests go to a proxy that does not exist."""
    mirrors = {"DATA_MIRROR": refusing.address, "no_proxy": "127.0.0.1"}
    mirrors |= dict.fromkeys(("http_proxy", "https_proxy"), f"http://{LOGIN}@127.0.0.1:1")
    text = Path(params.PARAMS).read_text()
    Path(params.PARAMS).write_text(text.replace("{name: digits}", "{name: mnist}"))
    status, printed = run("stages.fetch.__main__", **mirrors)
    assert (status, f"http://***@127.0.0.1:{refusing.port}/train-images" in printed) == (1, True), printed
    custom = f"{{name: mine, format: npz, train: '{refusing.address}/x.npz?sig=p%40ss', sha256: {{train: {'a' * 64}}}}}"
    Path(params.PARAMS).write_text(text.replace("{name: digits}", custom))
    status, printed = run("stages.fetch.__main__", **mirrors)
    assert (status, f"http://***@127.0.0.1:{refusing.port}/x.npz?sig=***: HTTP status 401" in printed) == (1, True), (
        printed
    )


UNEXPECTED = """
import logging, sys, threading
from many_seeds.commands import console

def fail():
    try:
        raise KeyError("http://user:p%40ss@host")
    except KeyError as error:
        raise RuntimeError("p@ss was refused") from error

@console.command
def main():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    logging.warning("%s can't be reached", "postgresql://user:p%40ss@host")
    try:
        fail()
    except RuntimeError:
        logging.exception("p@ss")
    {ends}

main()
"""


@pytest.mark.parametrize("ends", ["fail()", "console.Parser().parse_args(['http://user:p%40ss@host'])"])
def test_unexpected_errors_and_logs_have_no_password(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("unexpected.py").write_text(UNEXPECTED.replace("{ends}", ends))
    printed = subprocess.run(
        [sys.executable, "-m", "unexpected"],
        env={**os.environ, "MLFLOW_TRACKING_URI": f"http://{LOGIN}@host"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout
    assert_no_password(printed)
    assert "Exception in thread" in printed
    assert "KeyError: 'http://***@host'" in printed
    assert "RuntimeError: *** was refused" in printed
    assert "WARNING:root:postgresql://***@host can't be reached" in printed
    assert "ERROR:root:***" in printed


def test_the_ui_passes_the_password_of_a_database_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another test starts the UI with a database."""
    program, started = tmp_path / "python", tmp_path / "started"
    program.write_text(f'#!/bin/sh\necho "$MLFLOW_BACKEND_STORE_URI" "$@" > {started}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    uri = f"postgresql://{LOGIN}@127.0.0.1:1/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="UI ended with status 0"), ui.running(free_port()):
        pass
    given, *arguments = started.read_text().split()
    assert (given, arguments[:3]) == (uri, ["-m", "mlflow", "ui"])
    assert not [form for form in FORMS if form in " ".join(arguments)]


def test_the_command_that_restores_an_experiment_has_no_password(
    workspace: Path, study: Params, empty_database: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    uri = f"sqlite:///file:{address.DATABASE.resolve()}?mode=rw&uri=true&password=p%40ss"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    Publisher(study).publish_study()
    Publisher(study).publish_variants(["ridge"])
    client().delete_experiment(client().get_experiment_by_name("digits").experiment_id)
    _, printed = run("stages.tracking.__main__")
    assert 'MLFLOW_TRACKING_URI="$MLFLOW_TRACKING_URI" mlflow experiments restore' in printed
