"""Scores of single test items, from a table with a row for each variant, seed and item."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.results import Pair
from many_seeds.sources.columns import check_by, check_seed, fold_remarks
from many_seeds.sources.scores import Scores, from_columns
from many_seeds.sources.shapes import SEED
from many_seeds.sources.tables import check_column, metric_column, rows_where, variant_names
from many_seeds.statistics.new_images import LEAST_IMAGES

ITEM, GROUP = "item", "group"


@dataclass(frozen=True)
class Items:
    """Scores of single test items.

    Attributes:
        scores: the score of each run: the mean over its items.
        values: variant → float64 [seeds, items], in the order of the seeds in `scores`.
        groups: int [items], the group of each item; None if items are independent.
        resolution: of the mean over the items, if each item is right or wrong; else 0.
    """

    scores: Scores
    values: dict[str, np.ndarray]
    groups: np.ndarray | None
    resolution: float

    def differences(self, pair: Pair) -> np.ndarray:
        """The score of b minus that of a on each item, averaged over the common seeds, float64 [items]."""
        a, b = pair
        _, in_a, in_b = np.intersect1d(
            self.scores.variants[a].seeds, self.scores.variants[b].seeds, assume_unique=True, return_indices=True
        )
        return self.values[b][in_b].mean(axis=0) - self.values[a][in_a].mean(axis=0)


def read_items(
    table: pd.DataFrame, metric: str | None, seed: str | None, by: Sequence[str], where: Sequence[str]
) -> Items:
    """Scores of items from a table with a row for each variant, seed and item.

    Args:
        table: of `text_files.read_table`, with the column item, and with the column group if items are not independent.
            An item with a blank cell there is a group of one.
        metric: column of the scores; None for the only remaining column with numbers. True and False are 1 and 0.
        seed: column of the seeds; None for "seed".
        by: columns that distinguish variants.
        where: conditions COLUMN=VALUE that a row must meet.

    Returns:
        The checked scores.

    Raises:
        UserError: a column is missing, a score is not a number, a run has an item twice or lacks one that others have,
            or an item is in two groups.
    """
    seed, by = seed or SEED, list(dict.fromkeys(by))
    for name in by:
        check_by(name)
        check_column(table, name, "--by", "the variants")
    check_seed(seed)
    check_column(table, seed, "--seed", "the seeds")
    if ITEM not in table.columns:
        raise UserError(f"--items needs a column {ITEM!r} with the test items; columns: {listed(list(table.columns))}")
    chosen = table[rows_where(table, where)]
    metric = metric_column(chosen, metric, [*by, seed, ITEM, GROUP], where)
    _check_filled(chosen, [*by, seed, ITEM])
    long = pd.DataFrame(
        {
            "variant": variant_names(chosen, by),
            "seed": chosen[seed].astype(str),
            "item": chosen[ITEM].astype(str),
            "score": pd.to_numeric(chosen[metric], errors="coerce").astype(float),
        }
    )
    _check_rows(long, metric)
    values = long.pivot_table("score", ["variant", "seed"], "item", aggfunc="first")
    _check_complete(values)
    runs = long[["variant", "seed"]].drop_duplicates(ignore_index=True)
    array = values.loc[pd.MultiIndex.from_frame(runs)].to_numpy()

    def by_run(score: np.ndarray) -> Scores:
        return from_columns(
            metric, runs["variant"], runs["seed"], pd.Series(score), lambda row: f"run {row + 1}", remarks
        )

    groups = _groups(chosen, values.columns)
    remarks = [f"{counted(array.shape[1], 'item')} per run", *_too_few(array.shape[1], groups)]
    remarks += fold_remarks(metric, seed)
    places = by_run(np.arange(len(runs), dtype=float)).variants  # the row of each run, ordered as the scores
    return Items(
        by_run(array.mean(axis=1)),
        {name: array[of.scores.astype(int)] for name, of in places.items()},
        groups,
        1 / array.shape[1] if np.isin(array, (0.0, 1.0)).all() else 0.0,
    )


def _too_few(items: int, groups: np.ndarray | None) -> list[str]:
    """A remark if there are too few items or groups for a verdict on new items."""
    count, noun = (items, "item") if groups is None else (len(np.unique(groups)), "group")
    if count >= LEAST_IMAGES:
        return []
    return [f"no verdict on new items: it needs {LEAST_IMAGES} {noun}s, received {count}"]


def _check_filled(table: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        empty = table[name].isna()
        if empty.any():
            raise UserError(
                f"{table.index.name} {table.index[empty.argmax()]:,} has no {name}: expected one in every row"
            )


def _check_rows(long: pd.DataFrame, metric: str) -> None:
    invalid = ~np.isfinite(long["score"])
    if invalid.any():
        raise UserError(
            f"{long.index.name} {long.index[invalid.argmax()]:,} should have a finite number as {metric}, or True or "
            f"False ({counted(int(invalid.sum()), 'such score')})"
        )
    again = long.duplicated(["variant", "seed", "item"])
    if again.any():
        row = long[again].iloc[0]
        raise UserError(
            f"variant {row['variant']} has item {row['item']} twice with seed {row['seed']} "
            f"({counted(int(again.sum()), 'such row')}): expected one score for each variant, seed and item"
        )


def _check_complete(values: pd.DataFrame) -> None:
    missing = values.isna()
    if missing.any(axis=None):
        (variant, seed), lacking = next((run, row) for run, row in missing.iterrows() if row.any())
        raise UserError(
            f"every run should have the same items; variant {variant} with seed {seed} lacks "
            f"{listed(list(values.columns[lacking]))}"
        )


def _groups(table: pd.DataFrame, items: pd.Index) -> np.ndarray | None:
    """The group of each item, int [items]; None without the column group. An item with a blank cell has its own."""
    if GROUP not in table.columns:
        return None
    names = table[GROUP].astype(str)
    names = names.mask(table[GROUP].isna() | (names.str.strip() == ""), "")
    pairs = pd.DataFrame({ITEM: table[ITEM].astype(str), GROUP: names}).drop_duplicates()
    again = pairs[ITEM].duplicated()
    if again.any():
        raise UserError(f"each item should be in one {GROUP}; item {pairs[ITEM][again].iloc[0]} is in several")
    found = pairs.set_index(ITEM)[GROUP].loc[items]
    groups, _ = pd.factorize(found.mask(found == ""))  # -1 for a blank cell
    alone = groups < 0
    groups[alone] = groups.max() + 1 + np.arange(alone.sum())
    return groups
