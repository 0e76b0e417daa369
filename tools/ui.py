"""MLflow's UI at the view of the approaches: `python -m tools.ui`, after `python -m stages.tracking`.

Where MLFLOW_TRACKING_URI is a server's address, the server's own page is named.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from many_seeds import console
from many_seeds.errors import UserError
from stages.study import params
from stages.tracking import address, experiment

POLL_SECONDS = 0.3  # between two questions whether the UI answers
HOST = "127.0.0.1"


def show(pages: dict[str, str]) -> None:
    """Print the addresses of the pages, and open the first where there is a browser."""
    (first, address), *others = pages.items()
    print(f"\n{first}: {address}")
    print("\n".join(["Other pages:", *(f"  {name}: {page}" for name, page in others)]), flush=True)
    if sys.platform == "darwin" or {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        webbrowser.open(address)


@contextlib.contextmanager
def running(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's UI on the database of the tracking URI, until the block ends; it answers when the block begins.

    Raises:
        UserError: the port is taken, or the UI ended before it answered.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UserError(f"something else answers on port {port}: name another with make ui PORT=...")
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # Without the job runners for language models: seven processes that nobody here needs.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **address.client_environment()}
    # Not as an argument, which everybody on this machine could read: it may hold a password.
    environment |= {"MLFLOW_BACKEND_STORE_URI": address.tracking_uri()}
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            while not _answers(port):
                if server.poll() is not None:
                    raise UserError(f"MLflow's UI ended with status {server.returncode} before it answered")
                time.sleep(POLL_SECONDS)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)  # MLflow leaves the work to children


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health"):
            return True
    except OSError:
        return False


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.ui", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=5000, help=f"on {HOST} (default: %(default)s)")
    parser.add_argument(
        "--study", type=Path, default=Path(), metavar="FOLDER", help="whose pages are named (default: here)"
    )
    arguments = parser.parse_args()
    port, study = arguments.port, params.load(arguments.study / params.PARAMS)
    if server := address.server():
        show(experiment.pages(study, server))
        return
    pages = experiment.pages(study, f"http://{HOST}:{port}")
    with running(port) as ui:
        show(pages)
        with contextlib.suppress(KeyboardInterrupt):  # which is how one ends it
            ui.wait()


if __name__ == "__main__":
    main()
