"""How a command ends: with one line after an error in the input or a signal."""

import errno
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from many_seeds.commands import console
from many_seeds.errors import UserError
from tests import ROOT


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (UserError("seeds must differ"), "error: seeds must differ"),
        (
            FileNotFoundError(2, "No such file or directory", "data/dev.npz"),
            "No such file or directory: data/dev.npz",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device"),
    ],
)
def test_an_error_in_the_input_ends_a_command_with_one_line_and_status_1(
    raised: Exception, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @console.command
    def main() -> None:
        raise raised

    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, str)  # Python prints it and exits with 1
    assert expected in end.value.code
    assert "\n" not in end.value.code


def test_a_bug_keeps_its_traceback() -> None:
    @console.command
    def main() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        main()


@pytest.mark.pipeline
@pytest.mark.parametrize(
    "module",
    [
        "stages.fetch.__main__",
        "stages.split.__main__",
        "stages.aggregate.__main__",
        "stages.tracking.__main__",
        "tools.demo",
    ],
)
def test_a_command_without_arguments_refuses_one_before_it_does_anything(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["python -m", "mlp_tuned"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main()
    assert end.value.code == 2
    assert "unrecognized arguments: mlp_tuned" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


WAITS = """
import signal, sys
from many_seeds.commands import console

@console.command
def main():
    try:
        print("ready", flush=True)
        while True:
            signal.pause()
    finally:
        print("cleared", flush=True)

main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_one_line_after_the_cleanup(signum: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),  # a background job has some ignored
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == "cleared\n"
    assert errors == "stopped: what was finished is kept, and the same command goes on from there\n"


DELETES = """
import signal

from many_seeds.commands import console

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

@console.command
def main():
    Deleted()
    signal.pause()

main()
"""


def test_a_signal_that_comes_while_an_object_is_deleted_ends_a_command_too() -> None:
    result = subprocess.run(
        [sys.executable, "-c", DELETES], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a script's background job has it
    )  # fmt: skip
    assert result.returncode == 130
    assert result.stderr == "stopped: what was finished is kept, and the same command goes on from there\n"


def test_a_command_that_nohup_started_goes_on_when_its_terminal_is_gone() -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-c", WAITS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 130  # of the second


ORPHAN = """
import os, sys, threading
from many_seeds.commands import console
console.when_orphaned(lambda: os._exit(0), os.getppid())
print("ready", flush=True)
threading.Event().wait()
"""


STAGE = """
import psutil
from stages.study import dvc

def refused(self):
    raise psutil.AccessDenied(self.pid)

psutil.Process.cmdline = refused  # as where processes of other users are hidden
dvc.when_gone(lambda: os._exit(0))
"""


@pytest.mark.parametrize(
    "orphan",
    [
        ORPHAN,
        pytest.param(
            ORPHAN.replace("console.when_orphaned(lambda: os._exit(0), os.getppid())", STAGE),
            marks=pytest.mark.pipeline,
        ),
    ],
)
def test_an_orphan_is_notified_when_its_parent_has_ended_for_any_reason(orphan: str) -> None:
    parent_of = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {orphan!r}])"
    with subprocess.Popen([sys.executable, "-c", parent_of], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.read() == ""  # which ends when the orphan does


@pytest.mark.pipeline
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_output_can_be_printed_in_an_encoding_without_its_characters(encoding: str) -> None:
    for command in (["tools.compare.__main__", "HEAD", "HEAD"], ["many_seeds.commands.cli", "verdict", "--help"]):
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stdout.decode(encoding)
