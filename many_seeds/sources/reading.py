"""How the scores of runs are read from tables: which columns, rows and steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.sources.run_files import read_tables
from many_seeds.sources.scores import Scores, VariantScores
from many_seeds.sources.shapes import SEED
from many_seeds.sources.tables import BY, column_of, long_scores, wide_scores

At = Literal["last", "best"]
LEAST_SORTED = 5  # runs that are in the order of their scores by chance once in 120 times
IN_ORDER = (
    "--unpaired: the first run of a is paired with the first of b, the second with the second, and so on, in the order "
    "of the input. This is valid if the order was not chosen by score"
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How scores are read from a table.

    Attributes:
        metric: column of the scores; None for the only one. With `wide`, the name of the score.
        seed: column of the seeds; None for "seed".
        by: columns that distinguish variants; empty for "variant".
        where: conditions COLUMN=VALUE that a row must meet.
        wide: whether each column, except that of the seeds, is a variant.
        unpaired: whether runs have no common seeds.
        at: which of several scores of a run counts, "last" or "best"; None if each run has one.
        over: a column, such as that of folds, over which the scores of a run are averaged.
        lower_is_better: whether a lower score is better; None if it is not stated.
    """

    metric: str | None = None
    seed: str | None = None
    by: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    wide: bool = False
    unpaired: bool = False
    at: At | None = None
    over: str | None = None
    lower_is_better: bool | None = None

    def __post_init__(self) -> None:
        if self.at not in (None, *get_args(At)):
            raise UserError(f"at should be {' or '.join(get_args(At))}, received {self.at!r}")
        if self.wide and (self.by or self.where or self.unpaired or self.at or self.over):
            raise UserError(
                "--wide reads every column as a variant and every row as a run: expected no --by, --where, --unpaired, "
                "--at or --over (in Python, no by, where, unpaired, at or over with wide=True)"
            )
        if self.unpaired and (self.at or self.over):
            raise UserError(
                "--at and --over need the seeds of runs: expected no --unpaired (in Python, no at or over with "
                "unpaired=True)"
            )

    @property
    def columns_of_variants(self) -> tuple[str, ...]:
        return self.by or (BY,)

    @property
    def text_columns(self) -> list[str]:
        """The columns that are read as text."""
        by = () if self.wide else self.columns_of_variants
        return [*by, self.seed or SEED, *map(column_of, self.where)]


def from_files(paths: Sequence[str], reading: Reading) -> Scores:
    """Scores from files, see `run_files.read_tables`.

    Raises:
        UserError: see `run_files.read_tables` and `from_table`.
    """
    return from_table(read_tables(paths, reading.text_columns), reading)


def from_table(table: pd.DataFrame, reading: Reading) -> Scores:
    """Scores from a table.

    Raises:
        UserError: see `tables.long_scores` and `tables.wide_scores`.
    """
    if reading.wide:
        return wide_scores(table, reading.metric, reading.seed)
    return long_scores(
        table,
        reading.metric,
        None if reading.unpaired else reading.seed or SEED,
        reading.columns_of_variants,
        reading.where,
        at=reading.at,
        over=reading.over,
        lower=reading.lower_is_better,
    )


def paired_in_order(scores: Scores) -> Scores:
    """Scores of runs without seeds, paired by their order: the i-th run of one variant with the i-th of another.

    The pairs are as good as independent draws of both variants if the order does not depend on the scores.

    Raises:
        UserError: the runs of two variants or more are sorted by score.
    """
    by_score = [name for name, of in scores.variants.items() if _is_sorted(of.scores)]
    if len(by_score) > 1:
        raise UserError(
            f"--unpaired pairs runs in their order, but those of {listed(by_score)} are sorted by score: give them in "
            "the order in which they were run; or use --design fixed (in Python, design='fixed') if their number was "
            "fixed before any look"
        )
    variants = {name: VariantScores(np.arange(len(of.scores)), of.scores) for name, of in scores.variants.items()}
    most = max(len(of.scores) for of in variants.values())
    names = [str(place) for place in range(most)]
    return replace(scores, variants=variants, seeds=names, paired=True, remarks=[*scores.remarks, IN_ORDER])


def _is_sorted(scores: np.ndarray) -> bool:
    steps = np.diff(scores)
    return len(scores) >= LEAST_SORTED and bool((steps >= 0).all() or (steps <= 0).all()) and bool(steps.any())
