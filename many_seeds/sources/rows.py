"""One score for each run, from tables in which a run has a row for each step or each fold."""

from collections.abc import Sequence

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.sources.columns import is_fold, lower_is_better, step_columns

BEST = "best"
BEST_IS_SELECTED = (
    "--at best: of up to {} values, each run has the best, selected by the score that is compared. It is higher for "
    "runs with more values or more noise, not only for better ones: use --at last, or select by a validation score"
)


def one_row_per_run(
    table: pd.DataFrame, metric: str, run: Sequence[str], *, at: str | None, over: str | None, lower: bool | None
) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have the scores of runs.

    Args:
        table: the rows.
        metric: column of the scores.
        run: columns that identify a run: those of variants and seeds.
        at: "last" or "best" if a run has a score for each of several steps; None if it has one.
        over: a column, such as that of folds, over which scores are averaged; None for none.
        lower: whether a lower score is better; None if it is not stated.

    Returns:
        A row for each run, with the columns of `run` and the score; and remarks.

    Raises:
        UserError: a run has scores at several steps or folds and no option says which counts, or runs have different
            folds.
    """
    steps = [name for name in step_columns(table) if name not in (metric, *run)]
    remarks: list[str] = []
    if steps or at:
        scored = table[metric].notna()
        # A run without any score keeps its rows, so that the error for an empty score names it.
        table = table[scored | (scored.groupby([table[name] for name in run], dropna=False).transform("sum") == 0)]
    parts = [*run, over] if over else list(run)
    several = table.duplicated(parts).any()
    if several and at is None:
        _refuse_several(table, parts, steps)
    if several and at is not None:
        table, found = _chosen(table, metric, parts, steps, at, lower)
        remarks += found
    if over:
        table, found = _averaged(table, metric, run, over)
        remarks += found
    return table, remarks


def _refuse_several(table: pd.DataFrame, parts: Sequence[str], steps: Sequence[str]) -> None:
    which = _first_repeated(table, parts)
    if step := _unique_step(table, parts, steps):
        raise UserError(
            f"the run {which} has several scores, one for each {step}: choose with --at last, or --at best (in "
            "Python, at='last'). Rows of one run are not seeds"
        )
    if folds := [name for name in table.columns if is_fold(name) and name not in parts]:
        raise UserError(
            f"the run {which} has a score for each {folds[0]}: average them with --over {folds[0]}. Folds share "
            "training data, so they are not independent runs"
        )


def _first_repeated(table: pd.DataFrame, parts: Sequence[str]) -> str:
    """The first run that has a second row, as errors call it."""
    first = table[table.duplicated(parts)].iloc[0]
    return ", ".join(f"{name} {first[name]}" for name in parts)


def _unique_step(table: pd.DataFrame, run: Sequence[str], steps: Sequence[str]) -> str | None:
    """The first column of steps of which a run has none twice; rows of one run at one step differ in something else."""
    return next((step for step in steps if not table.duplicated([*run, step]).any()), None)


def _chosen(
    table: pd.DataFrame, metric: str, run: Sequence[str], steps: Sequence[str], at: str, lower: bool | None
) -> tuple[pd.DataFrame, list[str]]:
    """The last or best row of each run, in the order of the file, and remarks."""
    step = _unique_step(table, run, steps)
    if steps and step is None:
        raise UserError(
            f"the run {_first_repeated(table, [*run, steps[0]])} has several rows at one {steps[0]}: --at chooses "
            "among steps. Name further columns that distinguish variants with --by, or choose rows with --where"
        )
    groups = table.groupby(list(run), sort=False, dropna=False)
    most = int(groups.size().max())
    if at == BEST:
        scores = pd.to_numeric(table[metric], errors="coerce").reset_index(drop=True)
        if lower_is_better(metric, lower):
            scores = -scores
        # Runs without any number keep a row, which from_columns reports.
        order = scores.sort_values(ascending=False, kind="stable", na_position="last").index
        best = table.iloc[order].groupby(list(run), sort=False, dropna=False).head(1)
        return table.loc[table.index.isin(best.index)], [BEST_IS_SELECTED.format(most)]
    numbered = step is not None and pd.api.types.is_numeric_dtype(table[step]) and table[step].notna().all()
    ordered = table.sort_values(step, kind="stable") if numbered else table
    last = ordered.groupby(list(run), sort=False, dropna=False).tail(1)
    chosen = table.loc[table.index.isin(last.index)]
    return chosen, [
        f"--at last: the last of up to {most} values of each run",
        *_stopped_early(chosen, run, step if numbered else None),
    ]


def _stopped_early(chosen: pd.DataFrame, run: Sequence[str], step: str | None) -> list[str]:
    """A remark on runs whose last score is at an earlier step than that of others."""
    if step is None:
        return []
    last = chosen[step]
    early = chosen[last < last.max()]
    if early.empty:
        return []
    names = [f"{' '.join(map(str, key[:-1]))} at {key[-1]}" for key in early[[*run, step]].to_numpy()]
    return [
        f"the last score is at an earlier {step} than {last.max()} in {counted(len(early), 'run')}: "
        f"{listed(names)}. If these runs were interrupted, train them to the end"
    ]


def _averaged(table: pd.DataFrame, metric: str, run: Sequence[str], over: str) -> tuple[pd.DataFrame, list[str]]:
    """A row for each run, with its mean score over the folds.

    Raises:
        UserError: a score is not a number, or runs have different folds.
    """
    scores = pd.to_numeric(table[metric], errors="coerce")
    if scores.isna().any():
        label = table.index[int(scores.isna().argmax())]
        raise UserError(f"--over {over} averages numbers: row {label} should have a number as {metric}")
    folds = table.groupby(list(run), sort=False)[over].agg(lambda of: tuple(sorted(map(str, of))))
    if len(different := folds.unique()) > 1:
        first, other = different[:2]
        raise UserError(
            f"--over {over} expects the same folds in every run, found {listed(first)} in some and {listed(other)} in "
            "others"
        )
    means = scores.groupby([table[name] for name in run], sort=False).transform("mean")
    averaged = table.assign(**{metric: means}).drop_duplicates(list(run))
    return averaged, [f"averaged over {over}: {counted(len(folds.iloc[0]), 'row')} for each run"]
