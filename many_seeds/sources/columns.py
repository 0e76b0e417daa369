"""What the name of a column or metric says about its values: steps, folds, states of runs, the better direction."""

import re
from collections.abc import Sequence

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed

# Names in lower case, without other characters than letters.
STEP = re.compile(
    r"(?:global|train|training|total|time|totaltime)?steps?|epochs?|(?:training)?iterations?|iters?|(?:samples|tokens)seen|"
    r"(?:wall|run|elapsed)?time|relativetime(?:process|wall)?|timestamp|datetime|date|elapsed"
)
TOTAL = re.compile(r".*(?:steps|epochs|iterations|iters)")  # how long a variant is trained; epoch counts within a run
BOUND = re.compile(r"(?:__|[-_ ./])(?:min|max|std|stderr|lower|upper)$", re.IGNORECASE)  # behind another column's name
FOLDS = {"fold", "folds", "kfold", "cv", "cvfold", "cvsplit", "split", "splits", "foldid", "foldindex", "foldidx"}
TIMES = {"time", "walltime", "runtime", "elapsed", "elapsedtime"}  # of a step, or the score of a benchmark
OVER_FOLDS = re.compile(r"^(?:mean|split\d+)_(?:test|train)_")  # scikit-learn's cv_results_
STATES = {"state", "status", "trialstate", "trialstatus", "runstate", "runstatus"}
UNFINISHED = re.compile(  # at the start of a state, such as "TrialState.PRUNED" or "failed: out of memory"
    r"(?:\w+\.)*(?:pruned|fail(?:ed|ure)?|killed|crash(?:ed)?|running|waiting|stopped|cancell?ed|aborted|timeout|"
    r"preempted|error(?:ed)?|interrupted|incomplete)\b",
    re.IGNORECASE,
)
LOWER = re.compile(  # a word of the name of a score
    r".*(?:loss|losses|errors?|entropy)|err|r?mse|mae|s?mape|r?msle|nll|ppl|perplexity|bp[bc]|[wce]er|fid|ece|brier|regret|"
    r"deviance|divergence|times?|latency|runtime|walltime|duration|seconds|elapsed|memory|cost"
)
NEGATED = ("neg", "negative", "minus")  # before the name of a loss, as in scikit-learn
SETS = {"mean", "split", "test", "train", "training", "val", "valid", "validation", "dev", "eval", "cv"}  # before that

STEPS_ARE_NO_RUNS = (
    "steps, epochs and times of one run are not independent runs: give one score for each run (from a tracker, the "
    "table of its runs, not a chart), or the files of all runs with --at last: 'runs/{variant}/{seed}/metrics.csv'"
)
SHARED_BY_FOLDS = (
    "{}: folds of a cross-validation share training data, so they are not independent runs and the interval may be "
    "too narrow. Repeat the cross-validation with several seeds, and average its folds with --over {}"
)
MEAN_OF_FOLDS = (
    "{}: folds of a cross-validation share training data; the interval is about other seeds with the same folds, "
    "unless each seed splits the data anew"
)
UNFINISHED_COUNT = (
    "not finished, but counted as if they were: {} with {}. A tuner prunes runs because of their score, so leaving "
    "them out would select by score too: train them to the end"
)
UNFINISHED_LEFT_OUT = (
    "left out by --where: {} with {}. If they were stopped because of their score, this selects by score, and the "
    "verdicts do not hold for all runs: train them to the end"
)


def is_step(name: str) -> bool:
    """Whether a column counts steps, epochs or time, such as "Step", "trainer/global_step" or "Wall time"."""
    return STEP.fullmatch(_letters(str(name).rpartition("/")[2])) is not None


def is_counter(name: str) -> bool:
    """Whether a column numbers steps or folds, so that it can't have the scores; a time can."""
    return is_fold(name) or (is_step(name) and _letters(name) not in TIMES)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", str(name).casefold())


def step_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if is_step(name)]


def check_seed(name: str) -> None:
    """Raise a UserError if --seed names a column of steps."""
    if is_step(name):
        raise UserError(f"--seed names {name!r}, which counts steps or time: {STEPS_ARE_NO_RUNS}")


def check_by(name: str) -> None:
    """Raise a UserError if --by names a column of steps within a run; epochs may be what variants differ in."""
    if is_step(name) and not TOTAL.fullmatch(_letters(name)):
        raise UserError(
            f"--by names {name!r}, which counts steps or time: {STEPS_ARE_NO_RUNS}. A column of how long each variant "
            "was trained is called epochs, steps or iterations"
        )


def check_wide(names: Sequence[str]) -> None:
    """Check that columns of a wide table can be variants.

    Raises:
        UserError: one has steps, or the bounds of another column.
    """
    if steps := [name for name in names if is_step(name)]:
        raise UserError(f"--wide reads each column as a variant, but {steps[0]!r} counts steps: {STEPS_ARE_NO_RUNS}")
    if bounds := [name for name in names if BOUND.search(name) and BOUND.sub("", name) in names]:
        raise UserError(
            f"--wide reads each column as a variant, but {listed(bounds)} have bounds of another column, as in "
            f"the chart of a tracker: remove them. Rows should be runs: {STEPS_ARE_NO_RUNS}"
        )


def is_fold(name: str | None) -> bool:
    return _letters(name or "") in FOLDS


def fold_remarks(metric: str, seed: str | None) -> list[str]:
    """A remark if seeds are folds, or the metric is that of folds."""
    if seed is not None and is_fold(seed):
        return [SHARED_BY_FOLDS.format(seed, seed)]
    return [MEAN_OF_FOLDS.format(metric)] if OVER_FOLDS.search(metric) else []


def state_remarks(table: pd.DataFrame, chosen: pd.DataFrame, metric: str) -> list[str]:
    """Remarks on runs that were pruned, failed or stopped, as a tuner names them.

    Args:
        table: all rows.
        chosen: the rows that are compared.
        metric: the column of the scores.

    Raises:
        UserError: such a run has no score.
    """
    remarks = []
    for name in table.columns:
        if _letters(name) not in STATES:
            continue
        unfinished = table[name].astype(str).str.match(UNFINISHED)
        kept = chosen[unfinished.loc[chosen.index]]
        left_out = table[unfinished & ~table.index.isin(chosen.index)]
        if len(kept) and kept[metric].isna().any():
            raise UserError(
                f"{counted(int(kept[metric].isna().sum()), 'row')} with {_values(kept[name])} have no {metric}: train "
                f"these runs to the end. Leaving them out (--where {name}=…) is right only if their score is not the "
                "reason why they were stopped"
            )
        for rows, sentence in ((kept, UNFINISHED_COUNT), (left_out, UNFINISHED_LEFT_OUT)):
            if len(rows):
                remarks.append(sentence.format(counted(len(rows), "row"), _values(rows[name])))
    return remarks


def _values(column: pd.Series) -> str:
    states = column.astype(str).str.partition(":")[0].unique()  # without the reasons of failed runs
    return f"the {column.name} {' or '.join(states)}"


def lower_is_better(metric: str, stated: bool | None) -> bool:
    """Whether a lower score is better.

    Args:
        metric: name of the score.
        stated: what the user says; None for nothing.

    Raises:
        UserError: nothing is said, and the name is that of a loss, an error or a time.
    """
    if stated is not None:
        return stated
    words = [word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", metric)]
    first = next((word for word in words if word not in SETS), "")
    if any(map(LOWER.fullmatch, words)) and first not in NEGATED:
        raise UserError(
            f"is a lower {metric} better? Its name suggests so: say it with --lower-is-better (in Python, "
            "lower_is_better=True; in a file of many-seeds run, lower_is_better: true), or the opposite with "
            "--higher-is-better (lower_is_better=False; lower_is_better: false)"
        )
    return False
