"""The command many-seeds, run in this process, and scores for it."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from many_seeds.commands.cli import main

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
    return many_seeds("verdict", *arguments, stdin=stdin)


def many_seeds(*arguments: str, stdin: bytes = b"") -> Output:
    """Run `many-seeds` in the current folder."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["many-seeds", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
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
