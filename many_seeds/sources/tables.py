"""Scores from tables in long form (a row for each run) and in wide form (a column for each variant)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.sources.columns import (
    check_by,
    check_seed,
    check_wide,
    fold_remarks,
    is_counter,
    is_fold,
    state_remarks,
)
from many_seeds.sources.rows import one_row_per_run
from many_seeds.sources.scores import RowName, Scores, as_text, from_columns
from many_seeds.sources.shapes import SEED, check_not_transposed, check_runs

BY = "variant"
UNNAMED = ("", "Unnamed: 0")  # the header of the index that pandas writes, and after it was read and written again
NUMERIC = ("integer", "floating", "mixed-integer-float")  # results of pandas.api.types.infer_dtype


def long_scores(
    table: pd.DataFrame,
    metric: str | None,
    seed: str | None,
    by: Sequence[str],
    where: Sequence[str],
    *,
    at: str | None = None,
    over: str | None = None,
    lower: bool | None = None,
) -> Scores:
    """Scores from a table with a row for each run, or for each of its steps or folds.

    Args:
        table: of `text_files.read_table`.
        metric: column of the scores; None for the only remaining column with numbers.
        seed: column of the seeds; None if they are not known or not shared.
        by: columns that distinguish variants.
        where: conditions COLUMN=VALUE that a row must meet.
        at: see `rows.one_row_per_run`.
        over: see `rows.one_row_per_run`.
        lower: whether a lower score is better; None if it is not stated.

    Returns:
        The checked scores.

    Raises:
        UserError: a column is missing or named for two purposes, no row meets a condition, a run has several scores, or
            see `scores.from_columns`.
    """
    by = list(dict.fromkeys(by))
    _check_run_columns(table, seed, by)
    if over is not None:
        check_column(table, over, "--over", "the folds")
    met = table[rows_where(table, where)]
    averaged = [over] if over else []
    metric = metric_column(table, metric, [*by, seed or SEED, *averaged], where)
    remarks = _where_remarks(len(met), len(table), metric, where) + state_remarks(table, met, metric)
    run = [*by, seed] if seed else list(by)
    if seed is not None:
        met, found = one_row_per_run(met, metric, run, at=at, over=over, lower=lower)
        remarks += found
    remarks += fold_remarks(metric, seed)
    return from_columns(
        metric, variant_names(met, by), met[seed] if seed else None, met[metric], row_name(met), remarks
    )


def _where_remarks(met: int, rows: int, metric: str, where: Sequence[str]) -> list[str]:
    if not where:
        return []
    remarks = [f"{met:,} of {counted(rows, 'row')} met {' and '.join(where)}"]
    if metric in map(column_of, where):
        remarks.append(
            f"--where chooses runs by {metric}, the score that is compared: the verdicts hold for such runs only"
        )
    return remarks


def wide_scores(table: pd.DataFrame, metric: str | None, seed: str | None) -> Scores:
    """Scores from a table with a column for each variant; an empty cell is a run that was not made.

    Args:
        table: of `text_files.read_table`.
        metric: name of the score; None for "score".
        seed: column of the seeds; None for the column "seed" in upper or lower case, and without such a column for one
            seed per row.

    Returns:
        The checked scores.

    Raises:
        UserError: the column of the seeds is missing, there is no other, one has no name, or see `scores.from_columns`.
    """
    table, remarks = _without_index(table)
    seed_column, seed_remarks = _seed_column(table, seed)
    names = [name for name in table.columns if name != seed_column]
    check_wide(names)
    if seed is not None:
        check_seed(seed)
    if not names:
        found = f"only {seed_column}" if seed_column else "none"
        raise UserError(f"--wide expects a column for each variant, found {found}")
    check_not_transposed(table, seed_column)
    seeds = pd.Series(np.arange(len(table)), table.index) if seed_column is None else table[seed_column]
    cells = pd.concat([pd.DataFrame({"variant": name, "seed": seeds, "score": table[name]}) for name in names])
    runs = cells[cells["score"].notna()]
    label = row_name(runs)
    remarks += seed_remarks + fold_remarks(metric or "score", seed_column)
    if empty := len(cells) - len(runs):
        remarks.append(f"left out: {counted(empty, 'empty cell')}; an empty cell means that the run was not made")
    return from_columns(
        metric or "score",
        runs["variant"],
        runs["seed"],
        runs["score"],
        lambda row: f"column {runs['variant'].iloc[row]}, {label(row)}",
        remarks,
    )


def row_name(table: pd.DataFrame) -> RowName:
    """How an error calls the row at a position, by the index of the table."""

    def named(row: int) -> str:
        label = table.index[row]
        return label if isinstance(label, str) else f"{table.index.name} {label:,}"

    return named


def score_columns(table: pd.DataFrame, used: Sequence[str]) -> list[str]:
    """The columns that may have the scores: those with numbers, or all where none has; no steps, folds or `used`."""
    others = [str(name) for name in table.columns if name not in used]
    others = [name for name in others if not is_counter(name)] or others
    return [name for name in others if pd.api.types.infer_dtype(table[name], skipna=True) in NUMERIC] or others


def column_of(condition: str) -> str:
    """The column of a condition COLUMN=VALUE."""
    return condition.partition("=")[0].strip()


def _check_run_columns(table: pd.DataFrame, seed: str | None, by: Sequence[str]) -> None:
    if seed in by:
        raise UserError(f"--by names {seed!r}, the column of the seeds: expected columns that distinguish variants")
    expected = [*by, seed] if seed else by
    if any(name not in table.columns for name in expected):
        check_runs(table, by, seed)
    for name in by:
        check_by(name)
        check_column(table, name, "--by", "the variants; --wide if each column is a variant")
    if seed is not None:
        check_seed(seed)
        check_column(table, seed, "--seed", "the seeds; --unpaired if runs have none in common")


def rows_where(table: pd.DataFrame, where: Sequence[str]) -> np.ndarray:
    """Which rows meet all conditions COLUMN=VALUE, bool [rows].

    Raises:
        UserError: a condition has another form, or no row meets it.
    """
    rows = np.ones(len(table), dtype=bool)
    for condition in where:
        column, equals, value = map(str.strip, condition.partition("="))
        if not equals:
            raise UserError(f"--where should be COLUMN=VALUE, received {condition!r}")
        check_column(table, column, "--where", "the condition")
        rows &= np.asarray(as_text(table[column]) == value)
        if not rows.any():
            raise UserError(f"no row has {condition}; values of {column}: {listed(list(table[column].unique()))}")
    return rows


def metric_column(table: pd.DataFrame, metric: str | None, used: Sequence[str], where: Sequence[str]) -> str:
    """The column of the scores: `metric`, or the only remaining column with numbers.

    Args:
        table: the rows.
        metric: its name; None to find it.
        used: columns with another purpose.
        where: conditions COLUMN=VALUE.

    Raises:
        UserError: there is no such column, there are several, or it has another purpose.
    """
    if metric is None:
        candidates = score_columns(table, [*UNNAMED, *used, *map(column_of, where)])
        if len(candidates) != 1:
            raise UserError(
                "name the column of the scores with --metric: expected one column with numbers, found "
                f"{listed(candidates)}"
            )
        return candidates[0]
    if metric in used:
        raise UserError(f"--metric names {metric!r}, which has another purpose: expected the column of the scores")
    check_column(table, metric, "--metric", "the scores")
    return metric


def check_column(table: pd.DataFrame, name: str, option: str, purpose: str) -> None:
    """Raise a UserError that names an option if a table has no column `name`."""
    if name not in table.columns:
        raise UserError(
            f"there is no column {name!r}: name with {option} the column of {purpose}. Columns: "
            f"{listed(list(table.columns))}"
        )


def variant_names(table: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Names of variants [rows]: the value of the column, or "column=value column=value" for several."""
    for name in by:
        if table[name].isna().any():
            return table[name]  # from_columns reports the row
    texts = {name: as_text(table[name]) for name in by}
    if len(by) == 1:
        return texts[by[0]]
    labelled = [f"{name}=" + text for name, text in texts.items()]
    return labelled[0].str.cat(labelled[1:], sep=" ")


def _without_index(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A wide table without the index that pandas wrote as its first column, and a remark about it.

    Raises:
        UserError: another column has no name.
    """
    remarks: list[str] = []
    if len(table.columns) and table.columns[0] in UNNAMED and np.array_equal(table.iloc[:, 0], np.arange(len(table))):
        table = table.iloc[:, 1:]
        remarks.append("the first column has no name and numbers the rows: left out")
    for place, name in enumerate(table.columns, 1):
        if name in UNNAMED:
            raise UserError(
                f"--wide reads each column as a variant, but column {place} has no name: name it ({SEED} if it has the "
                "seeds), or remove it"
            )
    return table, remarks


def _seed_column(table: pd.DataFrame, seed: str | None) -> tuple[str | None, list[str]]:
    """The column of the seeds of a wide table, None for one seed per row; and a remark about what was assumed."""
    if seed is not None:
        check_column(table, seed, "--seed", "the seeds, or leave the option out if each row is one seed")
        return seed, []
    if SEED in table.columns:
        return SEED, []
    for name in table.columns:
        if name.casefold() == SEED or is_fold(name):
            return name, [f"the column {name} is read as the seeds"]
    return None, [
        f"there is no column {SEED}: the runs of a row are assumed to share a seed, and each column is read as a "
        f"variant ({listed(list(table.columns))}); name the column of the seeds with --seed if it is one of them"
    ]
