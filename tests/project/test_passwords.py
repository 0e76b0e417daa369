"""No command prints, or passes to a process as an argument, the password of an address, least of all when it fails."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
from tests.support.mlflow import client, free_port
from tools import demo, ui

LOGIN = "user:p%40ss"
FORMS = ("p%40ss", "p@ss", base64.b64encode(b"user:p@ss").decode())


@dataclass
class Refusing:
    """A server that answers every request with an error and, in it, the address with the password that it was sent."""

    port: int
    status: int
    headers: list[str | None] = field(default_factory=list)  # Authorization, of each request

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


def run(*command: str, **environment: str) -> tuple[int, str]:
    """The exit status of a command of this project, and all that it printed, which shows no password."""
    answer = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "STUDY_WORKERS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert not [form for form in FORMS if form in answer.stdout], answer.stdout
    return answer.returncode, answer.stdout


def train_again() -> None:
    """Leave one run for `stages.train` to do and to publish."""
    shutil.rmtree(paths.run_path("ridge", 0))


@pytest.mark.parametrize(
    ("command", "answered", "status", "said"),
    [
        (["stages.tracking"], 500, 1, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (["tools.ui"], 401, 1, "error: MLflow at http://127.0.0.1:{port} can't be asked"),
        (
            ["tools.serving.register"],
            401,
            1,
            "error: the model is not registered: MLflow at http://127.0.0.1:{port} says",
        ),
        (["tools.serving.server"], 401, 1, "error: there is no models:/digits@champion at http://127.0.0.1:{port}"),
        (["stages.train", "ridge"], 401, 0, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (["stages.aggregate"], 401, 0, "warning: MLflow at http://127.0.0.1:{port} can't be written"),
        (["many_seeds.cli", "verdict", "--mlflow", "x"], 401, 2, "error: MLflow at http://127.0.0.1:{port} did not"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_server_that_refuses_gets_the_password_and_nobody_else_sees_it(
    command: list[str], answered: int, status: int, said: str, aggregated: Path, refusing: Refusing
) -> None:
    refusing.status = answered
    if command[0] == "stages.train":
        train_again()
    ended, printed = run(*command, MLFLOW_TRACKING_URI=refusing.address, MLFLOW_TRACKING_USERNAME="somebody else")
    assert (ended, said.format(port=refusing.port) in printed) == (status, True), printed
    assert set(refusing.headers) == {f"Basic {FORMS[-1]}"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://user:p%40ss@127.0.0.1:1", "MLflow at http://127.0.0.1:1 can't"),
        ("http://user:p/p@ss@127.0.0.1:1", "MLflow at http://***@127.0.0.1:1 can't"),  # escaped it should be
        ("postgresql+nosuch://user:p%40ss@127.0.0.1:1/db", "MLflow at postgresql+nosuch://***@127.0.0.1:1/db can't"),
    ],
)
def test_an_address_where_nothing_is_shows_no_password(address: str, said: str, workspace: Path) -> None:
    status, printed = run("stages.tracking", MLFLOW_TRACKING_URI=address)
    assert (status, said in printed) == (1, True), printed


def test_a_download_shows_no_password_of_a_mirror_an_address_or_a_proxy(workspace: Path, refusing: Refusing) -> None:
    """Every address beyond this machine goes to the proxy, where nothing is."""
    mirrors = {"DATA_MIRROR": refusing.address, "no_proxy": "127.0.0.1"}
    mirrors |= dict.fromkeys(("http_proxy", "https_proxy"), f"http://{LOGIN}@127.0.0.1:1")
    text = Path(params.PARAMS).read_text()
    Path(params.PARAMS).write_text(text.replace("{name: digits}", "{name: mnist}"))
    status, printed = run("stages.fetch", **mirrors)
    assert (status, f"http://***@127.0.0.1:{refusing.port}/train-images" in printed) == (1, True), printed
    own = f"{{name: mine, format: npz, train: '{refusing.address}/x.npz?sig=p%40ss', sha256: {{train: {'a' * 64}}}}}"
    Path(params.PARAMS).write_text(text.replace("{name: digits}", own))
    status, printed = run("stages.fetch", **mirrors)
    assert (status, f"http://***@127.0.0.1:{refusing.port}/x.npz?sig=***: HTTP status 401" in printed) == (1, True), (
        printed
    )


UNEXPECTED = """
import logging, sys, threading
from many_seeds import console

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
def test_an_error_that_nobody_expected_and_a_log_show_no_password(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("unexpected.py").write_text(UNEXPECTED.replace("{ends}", ends))
    _, printed = run("unexpected", MLFLOW_TRACKING_URI=f"http://{LOGIN}@host")
    assert "Exception in thread" in printed
    assert "KeyError: 'http://***@host'" in printed
    assert "RuntimeError: *** was refused" in printed
    assert "WARNING:root:postgresql://***@host can't be reached" in printed
    assert "ERROR:root:***" in printed


def test_the_ui_hands_a_databases_password_to_mlflow_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That MLflow reads it, and passes it on to no process as an argument, is seen where its UI is started."""
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


def test_a_deleted_experiment_is_brought_back_without_the_password_in_a_command(
    workspace: Path, study: Params, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    uri = f"sqlite:///file:{address.DATABASE.resolve()}?mode=rw&uri=true&password=p%40ss"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    Publisher(study).publish_study()
    Publisher(study).publish_variants(["ridge"])
    client().delete_experiment(client().get_experiment_by_name("digits").experiment_id)
    _, printed = run("stages.tracking")
    assert 'MLFLOW_TRACKING_URI="$MLFLOW_TRACKING_URI" mlflow experiments restore' in printed


def test_the_demos_stages_get_the_password_apart_from_the_address(
    workspace: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.FOLDER.mkdir(parents=True)
    shows = (
        "import os; print({name: value for name, value in os.environ.items() if 'MLFLOW_TRACKING' in name}); exit(1)"
    )
    monkeypatch.setattr("stages.study.dvc.command", lambda *_: [sys.executable, "-c", shows])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{LOGIN}@host")
    with pytest.raises(UserError) as failed:
        demo.repro(study)
    for name, value in {"URI": "http://host", "USERNAME": "user", "PASSWORD": "p@ss"}.items():
        assert f"'MLFLOW_TRACKING_{name}': '{value}'" in str(failed.value)
