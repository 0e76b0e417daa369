"""Commands of this project, run in this process, and scores for many-seeds."""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from many_seeds.commands.cli import main
from many_seeds.commands.console import ENDING

TENTHS = [0.1 * number for number in range(1, 11)]


@dataclass(frozen=True)
class Output:
    """What a command printed, and its exit status."""

    out: str
    err: str
    status: int

    @property
    def words(self) -> str:
        """The standard output without line breaks."""
        return " ".join(self.out.split())


Run = Callable[..., Output]


def verdict(*arguments: str, stdin: bytes = b"") -> Output:
    """Run `many-seeds verdict` in the current folder."""
    return run_main(main, "verdict", *arguments, stdin=stdin)


def many_seeds(*arguments: str) -> Output:
    """Run `many-seeds` in the current folder."""
    return run_main(main, *arguments)


def run_main(
    command: Callable[[], None], *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Output:
    """Run a command in the current folder. The environment variables and hooks that it sets are reset afterwards.

    Args:
        command: the function `main` of its module.
        *arguments: of its command line.
        stdin: its standard input.
        environment: environment variables in addition to those of this process.
    """
    out, err, status, before = io.StringIO(), io.StringIO(), 0, dict(os.environ)
    factory = logging.getLogRecordFactory()
    handlers = {signum: signal.getsignal(signum) for signum in ENDING}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for holder, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
            patch.setattr(holder, name, getattr(holder, name))
        patch.setattr(sys, "argv", ["command", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        os.environ |= environment or {}
        try:
            command()
        except SystemExit as ended:
            if isinstance(ended.code, str):  # Python prints it
                print(ended.code, file=err)
            status = 1 if isinstance(ended.code, str) else int(ended.code or 0)
        finally:
            os.environ.clear()
            os.environ |= before
            logging.setLogRecordFactory(factory)
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
    return Output(out.getvalue(), err.getvalue(), status)


def assert_refused(output: Output, expected: str) -> None:
    """Assert that a command ended with status 2 and one clear line that contains `expected`."""
    assert (output.status, output.out) == (2, "")
    assert expected in output.err
    assert "Traceback" not in output.err
    assert output.err.splitlines()[-1].partition("error: ")[2]  # on one line, if below the usage


def parsed(output: Output) -> dict[str, Any]:
    """What a command printed with --json, in which NaN and Infinity are refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert output.err == ""
    return json.loads(output.out, parse_constant=refuse)


def only(output: Output) -> dict[str, Any]:
    """The one result that a command printed with --json."""
    (result,) = parsed(output)["results"]
    return result


def long(variants: Mapping[str, Sequence[float]], seeds: Iterable[int] | None = None) -> str:
    """A CSV file with the columns variant, seed and accuracy."""
    rows = [
        f"{name},{seed},{score}"
        for name, scores in variants.items()
        for seed, score in zip(seeds or range(len(scores)), scores, strict=True)
    ]
    return "\n".join(["variant,seed,accuracy", *rows]) + "\n"


def lines(rows: str, header: str = "variant,seed,accuracy") -> str:
    """A CSV file of rows with blanks between."""
    return f"{header}\n{rows}".replace(" ", "\n") + "\n"


def write(text: str, name: str = "scores.csv") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name
