"""Scores from the runs of MLflow experiments, logged by any training code."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.sources.columns import fold_remarks
from many_seeds.sources.mlflow_checks import early_remarks, several_values_remarks, with_equal_numbers
from many_seeds.sources.mlflow_runs import EXPERIMENT, Fetched, Run, called, fetch_runs, fetch_values
from many_seeds.sources.rows import BEST, one_row_per_run
from many_seeds.sources.scores import Scores, from_columns
from many_seeds.sources.shapes import SEED
from many_seeds.sources.tables import BY

FINISHED = "FINISHED"
RUN, STEP = "run", "step"  # columns: the id of a run, the number of a value of the metric
METRIC_CONDITION = re.compile(r"\bmetrics?\.[`\"]?([^`\"\s<>=!]+)")


def read_scores(
    experiments: Sequence[str],
    metric: str | None,
    seed: str | None,
    by: Sequence[str],
    where: Sequence[str],
    *,
    at: str | None = None,
    over: str | None = None,
    lower: bool | None = None,
) -> Scores:
    """Scores from the finished runs of experiments on the server or database in MLFLOW_TRACKING_URI.

    A run in which finished runs are nested is left out, and these have its parameters unless they have their own.
    Conditions apply to each run separately. Of a metric that was logged at several steps, the last value counts, unless
    `at` or `over` says otherwise. Parameters that are equal as numbers, such as 0.1 and 1e-1, are one.

    Args:
        experiments: names of the experiments.
        metric: name of the metric; None if the runs have only one.
        seed: the parameter or tag of the seeds; None if they are not known or not shared.
        by: the parameters or tags that distinguish variants, or "experiment"; empty for the experiment if there are
            several, else for every parameter that differs, except the seed.
        where: conditions in MLflow's language, such as "params.depth = '3'".
        at: "last" or "best" of the values of the metric in a run; None for the last one, with a remark.
        over: a parameter or tag, such as that of folds, over whose runs scores are averaged, or "step" for the values
            of the metric in a run.
        lower: whether a lower score is better; None if it is not stated.

    Returns:
        The checked scores.

    Raises:
        UserError: MLflow is not installed or can't be reached, no run has the scores, variants can't be distinguished,
            or see `scores.from_columns`.
    """
    experiments = list(dict.fromkeys(experiments))
    conditions = " and ".join(where)
    fetched = fetch_runs(experiments, conditions)
    runs, remarks = _leaves(fetched.runs, fetched.chosen)
    if not runs:
        raise UserError(_no_runs(experiments, conditions, remarks))
    metric = metric or _only_metric(runs)
    remarks += _selection_remarks(fetched, metric, conditions)
    folds = over if over != STEP else None
    scored, left_out = _with_names(runs, experiments, metric, [name for name in (seed, folds) if name])
    scored, equal = with_equal_numbers(scored)
    distinguishing = _distinguishing(scored, experiments, [seed, folds], by)
    names = _variant_names(scored, distinguishing)
    remarks += left_out + [equal[name] for name in distinguishing if name in equal]
    remarks += early_remarks(scored, names, metric, seed)
    if at is None and over != STEP:
        remarks += several_values_remarks(scored, metric)
    table, found = _one_score_per_run(_table(scored, names, metric, seed, folds), metric, at=at, over=over, lower=lower)
    remarks += found + fold_remarks(metric, seed)
    return from_columns(
        metric,
        table[BY],
        table[SEED].rename(seed) if seed else None,
        table[metric],
        lambda row: f"run {table[RUN].iloc[row]}",
        remarks,
    )


def _selection_remarks(fetched: Fetched, metric: str, conditions: str) -> list[str]:
    """Remarks on runs that may be left out because of their score."""
    remarks = []
    if fetched.deleted:
        remarks.append(
            f"left out: {counted(fetched.deleted, 'deleted run')}. If a run was deleted because of its score, the "
            "verdicts do not hold"
        )
    if (used := METRIC_CONDITION.findall(conditions)) and metric in used:
        remarks.append(
            f"--where chooses runs by {metric}, the score that is compared, and leaves out those where it is NaN "
            f"({len(fetched.chosen):,} of {counted(len(fetched.runs), 'run')} met it): the verdicts hold for "
            "such runs only"
        )
    elif used:
        remarks.append(f"--where chooses runs by {listed(used)}: if that depends on the score, so do the verdicts")
    return remarks


def _leaves(runs: Sequence[Run], chosen: set[str]) -> tuple[list[Run], list[str]]:
    """The chosen runs that are finished and have no finished runs nested in them, and remarks on the others.

    Args:
        runs: all runs.
        chosen: ids of the runs that meet the conditions.

    Returns:
        The runs, with the parameters of the runs in which they are nested; and a remark for each reason to leave out.
    """
    by_id = {run.id: run for run in runs}
    parents = {run.parent for run in runs if run.status == FINISHED}
    lowest = [run for run in runs if run.id in chosen and run.id not in parents]
    finished = [_with_inherited(run, by_id) for run in lowest if run.status == FINISHED]
    remarks = _unfinished(lowest)
    if with_children := len(chosen & parents):
        remarks.append(f"left out: {counted(with_children, 'run')} with nested runs")
    return finished, remarks


def _unfinished(runs: Sequence[Run]) -> list[str]:
    """A remark for each status of runs that are not finished."""
    counts = Counter(run.status for run in runs if run.status != FINISHED)
    return [f"left out: {counted(count, 'run')} with the status {status}" for status, count in counts.items()]


def _with_inherited(run: Run, by_id: Mapping[str, Run]) -> Run:
    """The run, with the parameters of the runs in which it is nested where it does not have them itself."""
    parameters = dict(run.parameters)
    visited = set[str]()  # tags can make a circle of parents
    parent = by_id.get(run.parent or "")
    while parent is not None and parent.id not in visited:
        visited.add(parent.id)
        parameters = parent.parameters | parameters
        parent = by_id.get(parent.parent or "")
    return replace(run, parameters=parameters)


def _no_runs(experiments: Sequence[str], conditions: str, remarks: Sequence[str]) -> str:
    which = f" that meet {conditions} and have no nested runs" if conditions else ""
    reason = "; ".join(remarks)
    if not reason:
        reason = "a condition applies to each run separately" if conditions else "the experiment is empty"
    noun = "experiment" if len(experiments) == 1 else "experiments"
    verb = "has" if len(experiments) == 1 else "have"
    return f"the {noun} {called(experiments)} {verb} no finished runs{which}: {reason}"


def _only_metric(runs: Sequence[Run]) -> str:
    names = sorted({name for run in runs for name in run.metrics})
    if len(names) != 1:
        raise UserError(f"name the metric with --metric: the runs have {listed(names)}")
    return names[0]


def _with_names(
    runs: Sequence[Run], experiments: Sequence[str], metric: str, names: Sequence[str]
) -> tuple[Sequence[Run], list[str]]:
    """The runs that have a metric and some parameters or tags, and remarks on the others.

    Raises:
        UserError: no run has the metric, or none of those has a name.
    """
    kept = [run for run in runs if metric in run.metrics]
    remarks = _left_out(runs, kept, experiments, f"the metric {metric}")
    for name in names:
        having = [run for run in kept if run.get(name) is not None]
        remarks += _left_out(kept, having, experiments, f"a parameter or tag {name}")
        kept = having
    return kept, remarks


def _table(runs: Sequence[Run], names: Sequence[str], metric: str, seed: str | None, over: str | None) -> pd.DataFrame:
    """A row for each run, with its last value of the metric.

    Args:
        runs: the runs.
        names: the variant of each.
        metric: the column of the scores.
        seed: the parameter or tag of the seeds; None if they are not known.
        over: a parameter or tag that becomes a column.
    """
    columns = {BY: names, RUN: [run.id for run in runs], metric: [run.metrics[metric] for run in runs]}
    if seed is not None:
        columns[SEED] = [run.get(seed) for run in runs]
    if over is not None:
        columns[over] = [run.get(over) for run in runs]
    return pd.DataFrame(columns, index=[f"run {run.id}" for run in runs])


def _one_score_per_run(
    table: pd.DataFrame, metric: str, *, at: str | None, over: str | None, lower: bool | None
) -> tuple[pd.DataFrame, list[str]]:
    """The scores that `at` and `over` ask for, of a table of last values, and remarks."""
    remarks: list[str] = []
    if over == STEP and at is not None:
        raise UserError("--over step averages all values of a run, and --at chooses one: expected one of them")
    if over == STEP or at == BEST:
        run = [BY, SEED, RUN]
        every = _all_values(table, metric)
        table, remarks = one_row_per_run(every, metric, run, at=at, over=STEP if over == STEP else None, lower=lower)
        table = table.drop(columns=STEP)
    if over not in (None, STEP):
        table, found = one_row_per_run(table, metric, [BY, SEED], at=None, over=over, lower=lower)
        remarks += found
    return table, remarks


def _all_values(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each value of the metric in place of the last one, numbered in the column "step"."""
    values = fetch_values(list(table[RUN]), metric)
    every = table.loc[table.index.repeat([len(of) for of in values])]
    every[metric] = [value for of in values for value in of]
    every[STEP] = [place for of in values for place in range(len(of))]
    return every.set_axis(every.index + ", value " + every[STEP].astype(str))


def _left_out(runs: Sequence[Run], kept: Sequence[Run], experiments: Sequence[str], requirement: str) -> list[str]:
    """A remark on the runs that are not kept, if there are any.

    Raises:
        UserError: no run is kept.
    """
    if not kept:
        raise UserError(f"no finished run of {called(experiments)} has {requirement}. {_available(runs)}")
    missing = len(runs) - len(kept)
    return [f"left out: {counted(missing, 'run')} without {requirement}"] if missing else []


def _available(runs: Sequence[Run]) -> str:
    """What the runs have, for errors."""
    names = {
        "Parameters": {name for run in runs for name in run.parameters},
        "tags": {name for run in runs for name in run.tags if not name.startswith("mlflow.")},
        "metrics": {name for run in runs for name in run.metrics},
    }
    return "; ".join(f"{kind}: {listed(sorted(found))}" for kind, found in names.items())


def _distinguishing(
    runs: Sequence[Run], experiments: Sequence[str], others: Sequence[str | None], by: Sequence[str]
) -> Sequence[str]:
    """The names of the parameters or tags that distinguish variants, except others such as the seed.

    Raises:
        UserError: no run has a name in `by`, or no parameter differs.
    """
    if by:
        return _check_by(runs, by)
    return [EXPERIMENT] if len(experiments) > 1 else _differing_parameters(runs, others)


def _variant_names(runs: Sequence[Run], distinguishing: Sequence[str]) -> list[str]:
    """The name of the variant of each run.

    Raises:
        UserError: each run would be a variant.
    """
    names = [_variant_name(run, distinguishing) for run in runs]
    if len(set(names)) == len(runs) > 2:
        raise UserError(
            f"each of the {len(runs):,} runs would be a separate variant, by {listed(distinguishing)}: name with --by "
            "the parameters or tags that distinguish variants, and with --seed that of the seeds"
        )
    return names


def _check_by(runs: Sequence[Run], by: Sequence[str]) -> Sequence[str]:
    for name in by:
        if all(run.get(name) is None for run in runs):
            raise UserError(f"no run has a parameter or tag {name!r} (--by). {_available(runs)}")
    return by


def _differing_parameters(runs: Sequence[Run], others: Sequence[str | None]) -> list[str]:
    names = sorted({name for run in runs for name in run.parameters}.difference(others))
    differing = [name for name in names if len({run.parameters.get(name) for run in runs}) > 1]
    if not differing:
        raise UserError(
            f"{counted(len(runs), 'run')} without a parameter that differs, except the seed: name with --by the "
            f"parameters or tags that distinguish variants. {_available(runs)}"
        )
    return differing


def _variant_name(run: Run, by: Sequence[str]) -> str:
    """The value of a parameter or tag, or "name=value name=value" for several; missing ones are left out."""
    if len(by) == 1:
        value = run.get(by[0])
        return f"without {by[0]}" if value is None else value
    return " ".join(f"{name}={value}" for name in by if (value := run.get(name)) is not None)
