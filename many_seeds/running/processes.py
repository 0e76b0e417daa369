"""Runs of a command on this machine, each in a process group of its own."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from many_seeds.running import reaper
from many_seeds.running.commands import Command
from many_seeds.running.runs import Outcome, Run, RunError, ScoreError, last_lines, outcome_of

# Becomes the program behind it on a line of standard input, so that no program runs before its group is watched.
WHEN_WATCHED = ("sh", "-c", 'read -r _ && exec "$@" < /dev/null', "sh")
TERMINATION_SECONDS = 2.0  # between SIGTERM and SIGKILL


class Reaper:
    """A process that kills the commands that are left when this process is killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, group: int) -> Iterator[None]:
        self._write(f"+{group}\n")
        try:
            yield
        finally:
            self._write(f"-{group}\n")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())


class CommandWorker:
    """Executes a command for each run, and reads its scores.

    Args:
        command: the command.
        environment: further variables of the command.
        watch: of all commands of this process.
    """

    def __init__(self, command: Command, environment: Mapping[str, str], watch: Reaper) -> None:
        self._command = command
        self._environment = os.environ | environment
        self._reaper = watch
        self._thread = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._group: int | None = None
        self._killed = False

    def start(self, run: Run) -> "Future[Outcome]":
        self._killed = False
        return self._thread.submit(outcome_of, lambda: self._train(run))

    def is_ready(self) -> bool:
        return True

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            self._signal(signal.SIGTERM)
            if self._group is not None:
                timer = threading.Timer(TERMINATION_SECONDS, self._end, [self._group])
                timer.daemon = True
                timer.start()

    def close(self) -> None:
        self._thread.shutdown()

    def _end(self, group: int) -> None:
        with self._lock:
            if self._group == group:
                self._signal(signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        """Send a signal to the group of the command under way."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signum)

    def _train(self, run: Run) -> dict[str, float]:
        """The scores of a run.

        Raises:
            RunError: the command failed, or there is no score.
        """
        identity = uuid.uuid4().hex
        environment = self._environment | self._command.environment(identity)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            out = folder / "score.json"
            arguments = self._command.arguments(run, out)
            if shutil.which(arguments[0], path=environment.get("PATH")) is None:
                raise RunError(f"there is no program {arguments[0]}, or it is not executable")
            with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
                status = self._execute(arguments, environment, stdout, stderr)
            text, errors = (
                (folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr")
            )
            if status:
                how = f"exit status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
                shown = last_lines(errors if errors.strip() else text)
                raise RunError(f"{how}: {shlex.join(arguments)}", shown, retry=True)
            try:
                return self._command.scores(text, out, identity)
            except ScoreError as error:
                raise RunError(error.reason, last_lines(text)) from error

    def _execute(
        self, arguments: list[str], environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> int:
        """Run a command, and kill what it leaves in its process group."""
        with self._lock:
            if self._killed:
                return -signal.SIGTERM
            process = subprocess.Popen(
                [*WHEN_WATCHED, *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
            self._group = process.pid
        with self._reaper.watching(process.pid):
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as gate:
                gate.write(b"\n")
            status = process.wait()
            with self._lock:
                self._signal(signal.SIGKILL)
                self._group = None
            return status
