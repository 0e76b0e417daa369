"""The chains: each step compared with the one before it, and the bias of choosing a step on the test set."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from many_seeds.results import Results
from stages.aggregate import reference_2020
from stages.aggregate.report.parts import Column, Part, Table, number, text
from stages.aggregate.runs import Runs, shared_seeds
from stages.aggregate.sections import results
from stages.study.params import Params, describe_changes, differences
from stages.study.scores import ACCURACY, SCORES


@dataclass(frozen=True)
class Selection:
    """The score that choosing a step at one seed reports, and the score of that step at other seeds.

    Means over seeds, shares as fractions; None where they are undefined.

    Attributes:
        reported_by_test: the test score at the seed by whose test score the step was chosen.
        worth_by_test: the test score of that step at the other seeds.
        worth_by_dev: the same for the step chosen by validation score, where at least two steps have one.
        competed: the number of steps that have validation scores.
        optimism: how much better reported_by_test is than worth_by_test, in percentage points or the unit of the score.
    """

    reported_by_test: float
    worth_by_test: float | None
    worth_by_dev: float | None
    optimism: float | None
    competed: int


def parts(runs: Runs, study: Params, compared: Results) -> list[Part]:
    if not study.chains:
        return []
    found: list[Part] = []
    for chain in study.chains:
        of_chain = compared.of(list(pairwise(study.chains[chain])))
        steps = table(study, of_chain)
        columns: list[Column] = [text("step", "step"), *results.columns(of_chain), text("change", "change")]
        if steps["difference_2020"].notna().any():
            columns.insert(3, number("2020, one seed", "difference_2020", "{:+.2f}"))
        name, title = f"ablations_{chain}", f"The steps of the {chain} chain"
        found.append(Table(name, title, results.direction(of_chain), steps, columns, on_page=False))
    return [*found, _selection_table(runs, study)]


def table(study: Params, compared: Results) -> pd.DataFrame:
    """The result of each step compared with its predecessor, the changed fields, and the difference seen in 2020."""
    found = results.table(compared).drop(columns="a").rename(columns={"b": "step"})
    steps = [(result.a, result.b) for result in compared]
    found["change"] = [describe_changes(differences(study.recipe(a), study.recipe(b))) for a, b in steps]
    comparable = reference_2020.applies_to(study) and study.statistics.score == ACCURACY
    earlier = reference_2020.differences() if comparable else {}
    found["difference_2020"] = [earlier.get(step) for step in steps]
    return found


def _selection_table(runs: Runs, study: Params) -> Table:
    rows, score = [], SCORES[study.statistics.score]
    for chain, steps in study.chains.items():
        n = shared_seeds(runs[name] for name in steps)
        test = np.stack([score.values(runs[name])[:n] for name in steps])
        validation = np.stack([runs[name].score(score.validation)[:n] for name in steps])
        found = selection(test, validation, scale=score.scale, lower_is_better=score.lower_is_better)
        rows.append({"chain": chain, "steps": len(steps), "n": n, **vars(found)})
    form = "{:.3f} %" if score.is_share else "{:.4f}"
    columns = [
        text("chain", "chain"),
        number("steps", "steps"),
        number("n", "n"),
        number("chosen on the test set: reported", "reported_by_test", form, score.scale),
        number("at the other seeds", "worth_by_test", form, score.scale),
        number(f"optimism ({score.unit})", "optimism", "{:+.3f}" if score.is_share else "{:+.4f}"),
        number("steps with a validation split", "competed"),
        number("chosen among them on the validation split: at the other seeds", "worth_by_dev", form, score.scale),
    ]
    caption = (
        "For each seed, the step with the best score at that seed is chosen. Reported: its test score at that seed. "
        "At the other seeds: the mean of its test scores there, which is an unbiased estimate."
    )
    if study.statistics.score != ACCURACY:
        by = "loss" if score.validation == "dev_loss" else "accuracy"
        caption += f" The test score is the {score.label}, the validation score is the {by}."
    return Table("selection", "Selection bias of choosing on the test set", caption, pd.DataFrame(rows), columns)


def selection(
    test: np.ndarray, validation: np.ndarray, *, scale: float = 100, lower_is_better: bool = False
) -> Selection:
    """The selection bias of choosing a step of a chain by its test score at one seed, and by its validation score.

    A choice made on the scores that it then reports is optimistic: Cawley and Talbot 2010, "On over-fitting in model
    selection and subsequent selection bias in performance evaluation", JMLR 11. Of equal scores, the first step is
    chosen. The other seeds give an unbiased score of the chosen step.

    Args:
        test: float [steps, seeds], test scores.
        validation: float [steps, seeds], validation scores; a row of NaN for a step without a validation split.
        scale: what the optimism is multiplied by: 100 for fractions, so that it is in percentage points.
        lower_is_better: whether the best score is the lowest one.

    Raises:
        ValueError: the arrays are empty, not of one shape, test scores are missing, or a step has validation
            scores for some seeds only.
    """
    if test.shape != validation.shape or test.ndim != 2 or test.size == 0:
        raise ValueError(
            f"Expected test and validation of one shape [steps, seeds], received {test.shape} and {validation.shape}."
        )
    if not np.isfinite(test).all():
        raise ValueError(f"Expected a test score for every step and seed, received {test.tolist()}.")
    missing = np.isnan(validation)
    if (missing.any(axis=1) != missing.all(axis=1)).any():
        raise ValueError(
            f"Expected validation scores for all seeds of a step or for none, received {validation.tolist()}."
        )
    sign = -1 if lower_is_better else 1
    by_test = (sign * test).argmax(axis=0)
    reported = float(test[by_test, np.arange(test.shape[1])].mean())
    worth_by_test = _worth_elsewhere(test, by_test)
    worth_by_dev, competed = None, int((~missing).any(axis=1).sum())
    if competed > 1:
        worth_by_dev = _worth_elsewhere(test, np.where(missing, -np.inf, sign * validation).argmax(axis=0))
    return Selection(
        reported_by_test=reported,
        worth_by_test=worth_by_test,
        worth_by_dev=worth_by_dev,
        optimism=None if worth_by_test is None else scale * sign * (reported - worth_by_test),
        competed=competed,
    )


def _worth_elsewhere(test: np.ndarray, chosen: np.ndarray) -> float | None:
    """Mean over seeds of the score, at the other seeds, of the steps [seeds] chosen from test [steps, seeds]."""
    seeds = test.shape[1]
    if seeds < 2:
        return None
    here = test[chosen, np.arange(seeds)]
    return float(((test[chosen].sum(axis=1) - here) / (seeds - 1)).mean())
