"""Runs of training code and their outcomes."""

import math
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from many_seeds.output.messages import listed
from many_seeds.sources.shapes import SEED

COLUMNS = ("variant", SEED)  # of a store, before those of the scores
FACTS = ("seconds", "host", "status", "commit")  # behind them
SHOWN_LINES = 20  # of the output of a run that failed


class Run(NamedTuple):
    """One variant, trained with one seed."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant} {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        scores: name → score; empty if the run failed.
        seconds: its duration.
        host: the name of the machine.
        reason: why it failed, on one line; "" if it did not.
        output: the end of its output, if it failed.
        retry: whether a second attempt may succeed.
    """

    scores: Mapping[str, float]
    seconds: float
    host: str
    reason: str = ""
    output: str = ""
    retry: bool = False


class RunError(Exception):
    """A run failed.

    Attributes:
        reason: why, on one line.
        output: the end of its output.
        retry: whether a second attempt may succeed.
    """

    def __init__(self, reason: str, output: str = "", *, retry: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.output = output
        self.retry = retry


class ScoreError(RunError):
    """What a run returned or printed is no score; the reason says why."""


def outcome_of(train: Callable[[], Mapping[str, float]]) -> Outcome:
    """Train one run.

    Args:
        train: returns its scores; a `RunError` means that the run failed.
    """
    started = time.monotonic()
    scores: Mapping[str, float] = {}
    reason, output, retry = "", "", False
    try:
        scores = train()
    except RunError as error:
        reason, output, retry = error.reason, error.output, error.retry
    return Outcome(scores, time.monotonic() - started, platform.node(), reason, output, retry)


class Worker(Protocol):
    """Executes one run at a time."""

    def start(self, run: Run) -> "Future[Outcome]":
        """Start a run. An exception of the future means that its process died."""

    def is_ready(self) -> bool:
        """Whether the process that executes the run has started: its time limit begins then."""

    def kill(self) -> None:
        """End the run under way and its processes; the future then ends soon."""

    def close(self) -> None:
        """End the worker; no run is under way."""


def as_scores(value: Any, name: str) -> dict[str, float]:
    """The scores of a run.

    Args:
        value: a number, or a mapping from names to values, as training code returned it.
        name: the score by which variants are compared.

    Returns:
        Name → score; a number has the name `name`. Values that are no numbers or are called as another column of the
        store are left out.

    Raises:
        ScoreError: there is no such score, or it is not a finite number, or called as a column of the store.
    """
    reserved = (*COLUMNS, *FACTS)
    if name in reserved:
        raise ScoreError(f"a score can't be called {name}, as a column of the store: give it another name")
    values = {name: value}
    if isinstance(value, Mapping):
        values = {str(key): each for key, each in value.items() if str(key) not in reserved}
    if name not in values:
        raise ScoreError(f"expected a score called {name!r}, received {listed([*values])}: name one of these as score")
    scores = {key: _number(each) for key, each in values.items() if key == name or _is_number(each)}
    if not math.isfinite(scores[name]):
        raise ScoreError(
            f"{name} should be finite, received {scores[name]}: a run that diverged counts, so return the score of a "
            "model that has learned nothing"
        )
    return scores


def _number(value: Any) -> float:
    """A number, or a scalar of any library for arrays.

    Raises:
        ScoreError: it is none.
    """
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ScoreError(f"a score should be a number, received {str(value)[:60]!r}")


def _is_number(value: Any) -> bool:
    try:
        _number(value)
    except ScoreError:
        return False
    return True


def last_lines(text: str) -> str:
    """The end of an output, as it is shown."""
    return "\n".join(text.strip().splitlines()[-SHOWN_LINES:])
