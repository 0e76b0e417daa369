"""Open MLflow's UI at the view of the approaches: `python -m tools.ui`, after `python -m stages.tracking`.

If MLFLOW_TRACKING_URI is the address of a server, the addresses of the server's pages are printed instead.
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

from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import params
from stages.tracking import address, experiment

POLL_SECONDS = 0.3  # between checks whether the UI responds
REQUEST_SECONDS = 10  # that the UI may take to answer such a check
HOST = "127.0.0.1"


def show(pages: dict[str, str]) -> None:
    """Print the addresses of the views, and open the first one if there is a browser.

    Args:
        pages: name → address of each view.
    """
    (first, address), *others = pages.items()
    print(f"\n{first}: {address}")
    print("\n".join(["Other pages:", *(f"  {name}: {page}" for name, page in others)]), flush=True)
    if sys.platform == "darwin" or {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        webbrowser.open(address)


@contextlib.contextmanager
def running(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's UI on the database of the tracking URI until the block ends.

    Args:
        port: the port on 127.0.0.1.

    Yields:
        The process, when the UI responds.

    Raises:
        UserError: the port is in use, or the UI ended before it responded.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UserError(f"port {port} is in use: choose another one with make ui PORT=...")
    options = ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    command = [sys.executable, "-m", "mlflow", "ui", *options]
    # Without the job runners for language models, which are seven processes.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **address.client_environment()}
    # Not as an argument: all users of this machine can read arguments, and the URI may have a password.
    environment |= {"MLFLOW_BACKEND_STORE_URI": address.tracking_uri()}
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            while not _responds(port):
                if server.poll() is not None:
                    raise UserError(f"MLflow's UI ended with status {server.returncode} before it responded")
                time.sleep(POLL_SECONDS)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)  # with the child processes that serve the pages


def _responds(port: int) -> bool:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy can't reach this machine's HOST
    try:
        with directly.open(f"http://{HOST}:{port}/health", timeout=REQUEST_SECONDS):
            return True
    except OSError:
        return False


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.ui", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=5000, help=f"port on {HOST} (default: %(default)s)")
    port, study = parser.parse_args().port, params.load()
    if server := address.server():
        show(experiment.pages(study, server))
        return
    pages = experiment.pages(study, f"http://{HOST}:{port}")
    with running(port) as ui:
        show(pages)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the UI
            ui.wait()


if __name__ == "__main__":
    main()
