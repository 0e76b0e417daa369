"""A command that trains runs: its placeholders, and where the score of a run is."""

import contextlib
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.running.runs import Run, ScoreError, as_scores
from many_seeds.sources.mlflow_runs import fetch_tagged
from many_seeds.sources.shapes import SEED

OUT = "out"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
TAG = "many_seeds.run"  # of the runs that a command logs to MLflow
TAGS = "MLFLOW_RUN_CONTEXT"  # the variable with tags, in JSON, that MLflow gives to each new run


@dataclass(frozen=True)
class Command:
    """A command that trains one run.

    Attributes:
        parts: the program and its arguments, with placeholders.
        variants: variant → the values of the placeholders.
        score: the score by which variants are compared.
        mlflow: whether the command logs the score to MLflow; else it prints the score, or writes it to {out}.
    """

    parts: Sequence[str]
    variants: Mapping[str, Mapping[str, Any]]
    score: str
    mlflow: bool = False

    def arguments(self, run: Run, out: Path) -> list[str]:
        """The program and its arguments for a run; `out` is the file for its score."""
        return expanded(self.parts, self.variants[run.variant], run.seed, out)

    def environment(self, identity: str) -> dict[str, str]:
        """The variables by which the scores of a run are found.

        Args:
            identity: a text that no other run has.
        """
        if not self.mlflow:
            return {}
        return {TAGS: json.dumps(json.loads(os.environ.get(TAGS) or "{}") | {TAG: identity})}

    def scores(self, output: str, out: Path, identity: str) -> dict[str, float]:
        """The scores of a run that has ended.

        Args:
            output: its standard output.
            out: the file for its score.
            identity: as in `environment`.

        Raises:
            ScoreError: there is no such score, or it is not finite.
        """
        if self.mlflow:
            return logged_scores(identity, self.score)
        writes_file = any(f"{{{OUT}}}" in part for part in self.parts)
        return read_score(output, out if writes_file else None, self.score)


def parse_command(command: Any, variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The program and its arguments, with placeholders.

    Args:
        command: a list, or a string that is split as a shell would.
        variants: variant → the values of the placeholders.

    Raises:
        UserError: it is neither, can't be split, has no {seed}, or names a placeholder that a variant lacks; or a field
            of a variant is not used.
    """
    try:
        parts = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise UserError(f"command can't be split as a shell would ({error}), received {command!r}") from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str | int | float) for part in parts):
        raise UserError(f"command should be a list of a program and its arguments, or a string, received {command!r}")
    parts = [str(part) for part in parts]
    used = dict.fromkeys(name for part in parts for name in PLACEHOLDER.findall(part))
    if SEED not in used:
        raise UserError(f"command should have {{{SEED}}}, so that runs differ, received {shlex.join(parts)}")
    for variant, fields in variants.items():
        if OUT in fields:
            raise UserError(f"variant {variant} can't have the field {OUT}, which each run gets by itself")
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


def check_mlflow() -> None:
    """Raise a UserError unless MLflow is installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("mlflow: true reads scores from MLflow: pip install mlflow")


def logged_scores(identity: str, score: str) -> dict[str, float]:
    """The metrics of the MLflow run that a command has logged.

    Of nested runs, the outermost one that has the score counts.

    Args:
        identity: the value of its tag.
        score: the score by which variants are compared.

    Raises:
        ScoreError: MLflow can't be reached, or does not have one such run with a finite score.
    """
    try:
        runs = fetch_tagged(TAG, identity)
    except UserError as error:
        raise ScoreError(f"no score: {error}") from error
    scored = {run.id: run for run in runs if score in run.metrics}
    outermost = [run for run in scored.values() if run.parent not in scored]
    if len(outermost) != 1:
        others = sorted({name for run in runs for name in run.metrics})
        raise ScoreError(
            f"no score: expected one MLflow run of the command with the metric {score}, found {len(outermost)} of "
            f"{counted(len(runs), 'run')}"
            + (f" with {listed(others)}" if others else ", where MLFLOW_TRACKING_URI should be that of the command")
        )
    return as_scores(outermost[0].own_metrics, score)


def _parsed(text: str) -> Any:
    """A JSON value or a number, such as nan; None if it is neither."""
    for parse in (json.loads, float):
        with contextlib.suppress(ValueError):
            return parse(text)
    return None
