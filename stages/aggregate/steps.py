"""The chains: each step against the one before it, and what choosing among them on the test set would have cost."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from many_seeds.forest import forest
from many_seeds.results import Results
from stages.aggregate import course, results
from stages.aggregate.parts import Column, Part, Picture, Table, number, text
from stages.aggregate.runs import Runs, shared_seeds
from stages.study.params import Params, describe_changes, differences


@dataclass(frozen=True)
class Selection:
    """What choosing a step at one seed reports and is worth, as means over seeds; None where it is undefined.

    Attributes:
        reported_by_test: the test score at the seed that chose by test score.
        worth_by_test: the test score of that step at the other seeds.
        worth_by_dev: the same for the step that the dev score chooses.
        optimism: reported_by_test - worth_by_test, in points.
    """

    reported_by_test: float
    worth_by_test: float | None
    worth_by_dev: float | None
    optimism: float | None


def parts(runs: Runs, study: Params) -> list[Part]:
    if not study.chains:
        return []
    found: list[Part] = []
    for chain in study.chains:
        compared = results.results(runs, list(pairwise(study.chains[chain])), study)
        steps = table(runs, study, compared)
        columns: list[Column] = [text("step", "step"), *results.columns(compared), text("change", "change")]
        then: list[float | None] = []
        caption = f"The {chain} chain: what each step changed."
        if steps["difference_2020"].notna().any():
            columns.insert(3, number("2020, one seed", "difference_2020", "{:+.2f}"))
            then = [None if pd.isna(value) else float(value) for value in steps["difference_2020"]]
        name, title = f"ablations_{chain}", f"What each step of the {chain} chain was worth"
        figure = forest(compared, list(steps["step"]), then, "2020, one seed")
        found += [Table(name, title, "", steps, columns), Picture(name, figure, caption)]
    return [*found, _selection_table(runs, study)]


def table(runs: Runs, study: Params, compared: Results) -> pd.DataFrame:
    """The result of each step against its predecessor, what it changes, and what was seen once in 2020."""
    found = results.table(runs, compared).drop(columns="a").rename(columns={"b": "step"})
    steps = [(result.a, result.b) for result in compared]
    found["change"] = [describe_changes(differences(study.recipe(a), study.recipe(b))) for a, b in steps]
    then = course.differences() if course.told(study) else {}
    found["difference_2020"] = [then.get(step) for step in steps]
    return found


def _selection_table(runs: Runs, study: Params) -> Table:
    rows = []
    for chain, steps in study.chains.items():
        n = shared_seeds(runs[name] for name in steps)
        test = np.stack([runs[name].accuracy[:n] for name in steps])
        dev = np.stack([runs[name].score("dev_accuracy")[:n] for name in steps])
        rows.append({"chain": chain, "steps": len(steps), "n": n, **vars(selection(test, dev))})
    columns = [
        *(text("chain", "chain"), number("steps", "steps"), number("n", "n")),
        number("chosen on the test set: reported", "reported_by_test", "{:.3f} %", 100),
        number("what it is worth", "worth_by_test", "{:.3f} %", 100),
        number("optimism, points", "optimism", "{:+.3f}"),
        number("chosen on the dev split: worth", "worth_by_dev", "{:.3f} %", 100),
    ]
    caption = (
        "The step with the best test score of one seed is chosen, with each seed in turn: the score that it reports, "
        "and the mean over the other seeds, which is what the choice is worth."
    )
    return Table("selection", "Choosing on the test set", caption, pd.DataFrame(rows), columns)


def selection(test: np.ndarray, dev: np.ndarray) -> Selection:
    """What it costs to choose a step of a chain by its test score at one seed, and what choosing by dev score is worth.

    A choice made on the scores that it then reports is optimistic: Cawley and Talbot 2010, "On over-fitting in model
    selection and subsequent selection bias in performance evaluation", JMLR 11. Of equal scores, the first step is
    chosen. What a choice is worth is seen at the other seeds.

    Args:
        test: float [steps, seeds], test scores.
        dev: float [steps, seeds], dev scores; a row of NaN for a step without dev split.

    Raises:
        ValueError: the arrays are empty, not of one shape, test scores are missing, or a step has dev scores for some
            seeds only.
    """
    if test.shape != dev.shape or test.ndim != 2 or test.size == 0:
        raise ValueError(f"Expected test and dev of one shape [steps, seeds], received {test.shape} and {dev.shape}.")
    if not np.isfinite(test).all():
        raise ValueError(f"Expected a test score for every step and seed, received {test.tolist()}.")
    missing = np.isnan(dev)
    if (missing.any(axis=1) != missing.all(axis=1)).any():
        raise ValueError(f"Expected dev scores for all seeds of a step or for none, received {dev.tolist()}.")
    by_test = test.argmax(axis=0)
    reported = float(test[by_test, np.arange(test.shape[1])].mean())
    worth_by_test = _worth_elsewhere(test, by_test)
    worth_by_dev = None
    if not missing.all():
        worth_by_dev = _worth_elsewhere(test, np.where(missing, -np.inf, dev).argmax(axis=0))
    return Selection(
        reported_by_test=reported,
        worth_by_test=worth_by_test,
        worth_by_dev=worth_by_dev,
        optimism=None if worth_by_test is None else 100 * (reported - worth_by_test),
    )


def _worth_elsewhere(test: np.ndarray, chosen: np.ndarray) -> float | None:
    """Mean over seeds of the score, at the other seeds, of the steps [seeds] chosen from test [steps, seeds]."""
    seeds = test.shape[1]
    if seeds < 2:
        return None
    here = test[chosen, np.arange(seeds)]
    return float(((test[chosen].sum(axis=1) - here) / (seeds - 1)).mean())
