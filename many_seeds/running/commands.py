"""Runs of a shell command, each in a process group of its own."""

import contextlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.running import reaper
from many_seeds.running.runs import Outcome, Run, ScoreError, as_scores, last_lines

SEED, OUT = "seed", "out"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
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
    """Runs a command for each run, and reads its score.

    Args:
        command: the program and its arguments, with placeholders.
        variants: variant → the values of the placeholders.
        score: the score by which variants are compared.
        environment: further variables of the command.
        watch: of all commands of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        variants: Mapping[str, Mapping[str, Any]],
        score: str,
        environment: Mapping[str, str],
        watch: Reaper,
    ) -> None:
        self._command = command
        self._variants = variants
        self._score = score
        self._environment = os.environ | environment
        self._reaper = watch
        self._thread = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._group: int | None = None
        self._killed = False

    def start(self, run: Run) -> "Future[Outcome]":
        self._killed = False
        return self._thread.submit(self._run, run)

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

    def _run(self, run: Run) -> Outcome:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "score.json"
            arguments = expanded(self._command, self._variants[run.variant], run.seed, out)
            scores, reason, output, retry = self._outcome(arguments, Path(folder), out)
        return Outcome(scores, time.monotonic() - started, platform.node(), reason, output, retry)

    def _outcome(self, arguments: list[str], folder: Path, out: Path) -> tuple[dict[str, float], str, str, bool]:
        """Scores, the reason of a failure, the end of the output, whether to try again."""
        paths = folder / "stdout", folder / "stderr"
        if shutil.which(arguments[0], path=self._environment.get("PATH")) is None:
            return {}, f"there is no program {arguments[0]}, or it is not executable", "", False
        with paths[0].open("wb") as stdout, paths[1].open("wb") as stderr:
            status = self._execute(arguments, stdout, stderr)
        text, errors = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
        shown = last_lines(errors if errors.strip() else text)
        if status:
            how = f"exit status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
            return {}, f"{how}: {shlex.join(arguments)}", shown, True
        try:
            return (
                read_score(text, out if f"{{{OUT}}}" in " ".join(self._command) else None, self._score),
                "",
                "",
                False,
            )
        except ScoreError as error:
            return {}, str(error), shown, False

    def _execute(self, arguments: list[str], stdout: IO[bytes], stderr: IO[bytes]) -> int:
        """Run a command, and kill what it leaves in its process group."""
        with self._lock:
            if self._killed:
                return -signal.SIGTERM
            process = subprocess.Popen(
                [*WHEN_WATCHED, *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=self._environment,
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


def parse_command(command: Any, variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The program and its arguments, with placeholders.

    Args:
        command: a list, or a string that is split as a shell would.
        variants: variant → the values of the placeholders.

    Raises:
        UserError: it is neither, has no {seed}, or names a placeholder that a variant lacks; or a field of a variant
            is not used.
    """
    parts = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str | int | float) for part in parts):
        raise UserError(f"command should be a list of a program and its arguments, or a string, received {command!r}")
    parts = [str(part) for part in parts]
    used = dict.fromkeys(name for part in parts for name in PLACEHOLDER.findall(part))
    if SEED not in used:
        raise UserError(f"command should have {{{SEED}}}, so that runs differ, received {shlex.join(parts)}")
    for variant, fields in variants.items():
        if reserved := {SEED, OUT} & fields.keys():
            raise UserError(f"variant {variant} can't have the field {reserved.pop()}, which each run gets by itself")
        if unknown := [name for name in used if name not in (SEED, OUT, *fields)]:
            raise UserError(f"command has {{{unknown[0]}}}, which variant {variant} lacks: it has {listed([*fields])}")
        if unused := [name for name in fields if name not in used]:
            raise UserError(f"variant {variant} has {unused[0]}, but command has no {{{unused[0]}}}")
    return parts


def expanded(command: Sequence[str], fields: Mapping[str, Any], seed: int, out: Path | str) -> list[str]:
    """A command with the values of a run in place of its placeholders; those that are no text as in JSON."""
    values = {name: each if isinstance(each, str) else json.dumps(each) for name, each in fields.items()}
    values |= {SEED: str(seed), OUT: str(out)}
    return [PLACEHOLDER.sub(lambda found: values[found[1]], part) for part in command]


def read_score(output: str, out: Path | None, score: str) -> dict[str, float]:
    """The scores that a command wrote: JSON or a number, in a file or on the last line of its output.

    Args:
        output: its standard output.
        out: the file; None for the output.
        score: the score by which variants are compared.

    Raises:
        ScoreError: there is no such score, or it is not finite.
    """
    if out is not None:
        try:
            text = out.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ScoreError(f"no score: the command wrote no file to {{{OUT}}}") from error
        source = f"the file {{{OUT}}}"
    else:
        text, source = (output.strip().splitlines() or [""])[-1], "the last line of its output"
    value = _parsed(text)
    if isinstance(value, bool) or not isinstance(value, int | float | dict):
        raise ScoreError(f"no score: expected JSON or a number in {source}, received {text[:100]!r}")
    return as_scores(value, score)


def _parsed(text: str) -> Any:
    """A JSON value or a number, such as nan; None if it is neither."""
    for parse in (json.loads, float):
        with contextlib.suppress(ValueError):
            return parse(text)
    return None
