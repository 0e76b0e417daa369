"""Scores of the runs of an MLflow experiment, whoever logged them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.errors import StudyError
from stages.redact import redact, without_login
from stages.verdict import sources

PAGE = 1000  # runs that one answer of MLflow holds
FINISHED = "FINISHED"


@dataclass(frozen=True)
class _Run:
    """A run of MLflow, as far as it is needed."""

    id: str
    status: str
    parent: str | None
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    def fact(self, name: str) -> str | None:
        return self.parameters.get(name, self.tags.get(name))


def scores(
    experiment: str, metric: str | None, seed: str | None, by: Sequence[str], where: Sequence[str]
) -> sources.Scores:
    """Scores of the finished runs of an MLflow experiment, on the server or database of MLFLOW_TRACKING_URI.

    A run that has finished runs below it only holds them together: it is left out, and they have its parameters where
    they do not say otherwise; conditions are asked of the runs themselves. A metric that was logged at several steps
    counts as logged last.

    Args:
        experiment: its name.
        metric: None where the runs have only one.
        seed: the parameter or tag of the seeds; None: they are not known, or not shared.
        by: the parameters or tags that tell variants apart; empty for every parameter that differs but for the seed.
        where: conditions in MLflow's own language, such as params.depth = '3'.

    Raises:
        StudyError: MLflow is not installed or does not answer, there are no such runs, or see `sources.of_columns`.
    """
    conditions = " and ".join(where)
    runs, remarks = _leaves(*_fetched(experiment, conditions))
    if not runs:
        which = f", without others below them, that meet {conditions}" if where else ""
        why = "; ".join(remarks) or ("a condition is asked of each run itself" if where else "it is empty")
        raise StudyError(f"the experiment {experiment!r} has no finished runs{which}: {why}")
    metric = metric or _only_metric(runs)
    for what, has in (
        (f"the metric {metric}", lambda run: metric in run.metrics),
        (f"a parameter or tag {seed}", lambda run: seed is None or run.fact(seed) is not None),
    ):
        with_it = [run for run in runs if has(run)]
        if not with_it:
            raise StudyError(f"no finished run of {experiment!r} has {what}. {_what_there_is(runs)}")
        if len(with_it) < len(runs):
            remarks.append(f"left out: {sources.counted(len(runs) - len(with_it), 'run')} without {what}")
        runs = with_it
    variants = _variants_of(runs, seed, by)
    return sources.of_columns(
        metric,
        pd.Series(variants, name="variant"),
        pd.Series([run.fact(seed) for run in runs], name=seed) if seed else None,
        pd.Series([run.metrics[metric] for run in runs]),
        lambda row: f"run {runs[row].id}",
        remarks,
    )


def _fetched(experiment: str, conditions: str) -> tuple[list[_Run], set[str]]:
    """All runs, of which some may be above those that are chosen; and the ids of those that meet the conditions."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Whoever waits for an answer wants to hear soon that nobody is there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    try:
        import mlflow  # here: it takes seconds, and whoever reads a file need not have it
    except ModuleNotFoundError as error:
        raise StudyError(f"--mlflow needs the package mlflow ({error}): pip install mlflow") from error
    # A server's user and password reach MLflow apart from its address, which is then in no library's errors.
    uri, login = without_login(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    os.environ |= login
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not (database.is_file() and database.stat().st_size):
        raise StudyError(f"there is no MLflow database {database}: say with MLFLOW_TRACKING_URI where the runs are")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = [one.name for one in client.search_experiments()]
            raise StudyError(
                f"MLflow at {redact(uri)} has no experiment {experiment!r}. There are: {sources.named(names)}"
            )
        if found.lifecycle_stage != "active":
            raise StudyError(
                f"the experiment {experiment!r} is deleted: `mlflow experiments restore --experiment-id "
                f"{found.experiment_id}` brings it back"
            )
        runs = list(_pages(client, found.experiment_id, ""))
        chosen = _pages(client, found.experiment_id, conditions) if conditions else runs
        return runs, {run.id for run in chosen}
    except StudyError:
        raise
    except Exception as error:  # the database behind an address, or its missing driver, raises its own
        message = str(error).strip().split("\n")[0] or type(error).__name__
        raise StudyError(redact(f"MLflow at {uri} did not give the runs of {experiment!r}: {message}")) from error


def _pages(client: Any, experiment_id: str, conditions: str) -> Iterator[_Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            conditions,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            max_results=PAGE,
            page_token=token,
        )
        for run in page:
            tags = dict(run.data.tags)
            yield _Run(
                run.info.run_id,
                run.info.status,
                tags.get("mlflow.parentRunId"),
                dict(run.data.params),
                tags,
                dict(run.data.metrics),
            )
        token = page.token
        if not token:
            return


def _leaves(everything: Sequence[_Run], chosen: set[str]) -> tuple[list[_Run], list[str]]:
    """The chosen runs that are finished and have none below, with the parameters of those above; what is left out."""
    by_id = {run.id: run for run in everything}
    parents = {run.parent for run in everything if run.status == FINISHED}
    lowest = [run for run in everything if run.id in chosen and run.id not in parents]
    unfinished = Counter(run.status for run in lowest if run.status != FINISHED)
    remarks = [
        f"left out: {sources.counted(count, 'run')} that MLflow calls {status}" for status, count in unfinished.items()
    ]
    if above := len(chosen & parents):
        remarks.append(f"left out: {sources.counted(above, 'run')} with others below")
    leaves = []
    for run in lowest:
        if run.status == FINISHED:
            parameters, up = dict(run.parameters), by_id.get(run.parent or "")
            seen: list[_Run] = []  # tags can make a circle
            while up is not None and up not in seen:
                seen.append(up)
                parameters = up.parameters | parameters
                up = by_id.get(up.parent or "")
            leaves.append(replace(run, parameters=parameters))
    return leaves, remarks


def _only_metric(runs: Sequence[_Run]) -> str:
    names = sorted({name for run in runs for name in run.metrics})
    if len(names) != 1:
        raise StudyError(f"name the metric with --metric: the runs have {sources.named(names)}")
    return names[0]


def _what_there_is(runs: Sequence[_Run]) -> str:
    parameters = sorted({name for run in runs for name in run.parameters})
    tags = sorted({name for run in runs for name in run.tags if not name.startswith("mlflow.")})
    metrics = sorted({name for run in runs for name in run.metrics})
    return f"Parameters: {sources.named(parameters)}; tags: {sources.named(tags)}; metrics: {sources.named(metrics)}"


def _variants_of(runs: Sequence[_Run], seed: str | None, by: Sequence[str]) -> list[str]:
    """The name of each run's variant."""
    if missing := [name for name in by if all(run.fact(name) is None for run in runs)]:
        raise StudyError(f"no run has a parameter or tag {missing[0]!r} (--by). {_what_there_is(runs)}")
    if not by:
        names = sorted({name for run in runs for name in run.parameters} - {seed})
        by = [name for name in names if len({run.parameters.get(name) for run in runs}) > 1]
        if not by:
            raise StudyError(
                f"{sources.counted(len(runs), 'run')}, without a parameter that differs but the seed: name with --by "
                f"what tells variants apart. {_what_there_is(runs)}"
            )
    facts = [[(name, run.fact(name)) for name in by] for run in runs]
    if len(by) == 1:
        variants = [value if value is not None else f"without {name}" for ((name, value),) in facts]
    else:
        variants = [" ".join(f"{name}={value}" for name, value in of if value is not None) for of in facts]
    if len({*variants}) == len(runs) > 2:
        raise StudyError(
            f"each of the {len(runs):,} runs would be a variant of its own, by {sources.named(by)}: name with --by "
            "what tells variants apart, and with --seed what does not"
        )
    return variants
