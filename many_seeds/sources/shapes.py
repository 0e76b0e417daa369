"""Tables in other forms than a row for each run, named with the way out."""

import re
from collections.abc import Sequence

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.sources.columns import is_step

RUN_COLUMN = re.compile(r"\d+|(?:seed|run|rep|repeat|trial)[-_ .]?\d+", re.IGNORECASE)  # the header of one run
FOLD_COLUMN = re.compile(r"(?:split|fold)[-_ .]?\d+(?:_.*)?", re.IGNORECASE)
SEED = "seed"
FILES_OF_RUNS = "give the files of all runs by a pattern in quotes, such as 'runs/{variant}/{seed}/"


def check_runs(table: pd.DataFrame, by: Sequence[str], seed: str | None) -> None:
    """Raise a UserError for a table that lacks columns of runs because it has another form that is known."""
    check_not_transposed(table, seed)
    if columns := _matching(table, FOLD_COLUMN):
        raise UserError(
            f"{listed(columns)} have the folds of a cross-validation, which share training data and are not runs: "
            "repeat the cross-validation with several seeds, write a row for each variant and seed (columns variant, "
            "seed) and name with --metric the mean, such as mean_test_score"
        )
    if any(name in table.columns for name in by):
        return
    if steps := [name for name in table.columns if is_step(name)]:
        raise UserError(
            f"rows are numbered by {steps[0]}, so this is the curve of one run, or of several beside one another, "
            f"whose steps are not seeds: {FILES_OF_RUNS}metrics.csv', with --at last"
        )
    if len(table) == 1 and table.index.name in ("object", "line") and SEED not in table.columns:
        raise UserError(
            f"the file has the results of one run: {FILES_OF_RUNS}results.json', and name the score with "
            f"--metric: {listed([name for name in table.columns if _is_number(table[name].iloc[0])])}"
        )


def check_not_transposed(table: pd.DataFrame, seed: str | None) -> None:
    """Raise a UserError for a table with a row for each variant and a column for each seed."""
    runs = _matching(table, RUN_COLUMN)
    others = [name for name in table.columns if name not in runs]
    if len(runs) < 2 or seed in table.columns or len(others) != 1:
        return
    raise UserError(
        f"{others[0]!r} has a row for each variant and {counted(len(runs), 'column')} have its runs ({listed(runs)}): "
        'swap rows and columns, and read them with --wide: `python -c "import pandas as pd; '
        "pd.read_csv('FILE', index_col=0).T.to_csv('scores.csv', index_label='seed')\"`"
    )


def _matching(table: pd.DataFrame, header: re.Pattern[str]) -> list[str]:
    return [name for name in table.columns if header.fullmatch(str(name))]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
