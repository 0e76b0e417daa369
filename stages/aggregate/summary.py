"""The files that programs read: means, DVC's metrics, the champion, all scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.aggregate.runs import Runs, metric_names
from stages.aggregate.sections import races, variants
from stages.study.params import RACES, Statistics
from stages.study.races import RaceState
from stages.study.records.results import DIVERGED
from stages.study.scores import ACCURACY, SCORES


def means(runs: Runs, settings: Statistics) -> dict[str, Any]:
    """Mean and sd of every test score of each variant, the interval of its accuracy, and its ensemble's accuracy.

    If the study's score is another one: its mean, sd and interval, too. If runs of the variant diverged: their number.
    """
    names, found = metric_names(runs), {}
    for variant_name, variant in runs.items():
        of = variants.row(variant, settings)
        values = {name: variant.accuracy if name == "test_accuracy" else variant.score(name) for name in names}
        if settings.score != ACCURACY and variants.has_score(variant, settings.score):
            values[settings.score] = SCORES[settings.score].values(variant)
        scores = {name: {"mean": float(of_seeds.mean())} for name, of_seeds in values.items()}
        if len(variant.seeds) > 1:
            for name, of_seeds in values.items():
                scores[name]["sd"] = float(of_seeds.std(ddof=1))
        if math.isfinite(of["low"]):
            scores["test_accuracy"] |= {"ci_low": of["low"], "ci_high": of["high"]}
        if settings.score in values and math.isfinite(of[f"{settings.score}_low"]):
            low, high = (of[f"{settings.score}_{end}"] for end in ("low", "high"))
            scores[settings.score] |= {"ci_low": low, "ci_high": high}
        rounded = {name: {key: round(value, 8) for key, value in score.items()} for name, score in scores.items()}
        found[variant_name] = {"seeds": len(variant.seeds), **rounded, "ensemble_accuracy": variant.ensemble_accuracy}
        if diverged := int(variant.diverged.sum()):
            found[variant_name]["diverged"] = diverged
    return found


def of_races(raced: Sequence[RaceState]) -> dict[str, dict[str, Any]]:
    """The state of each race by its name, below the key "races"; empty without races."""
    return {RACES: {state.name: races.summarized(state) for state in raced}} if raced else {}


def metrics_of_races(raced: Sequence[RaceState]) -> dict[str, dict[str, Any]]:
    """The part of `of_races` that DVC's metrics have."""
    names = ("seeds", "in_race", "leader")
    return {
        key: {race: {name: state[name] for name in names} for race, state in states.items()}
        for key, states in of_races(raced).items()
    }


def metrics(runs: Runs, score: str) -> dict[str, dict[str, float]]:
    """The metrics of `dvc metrics`: mean accuracy of each variant on the test set and its validation splits (dev).

    If the study's score is another one, its mean on the test set, too.
    """
    found = {
        kind: _means({name: of.score(f"{kind}_accuracy") for name, of in runs.items()}) for kind in ("test", "dev")
    }
    if score != ACCURACY:
        with_score = {name: of for name, of in runs.items() if variants.has_score(of, score)}
        found[score] = _means({name: SCORES[score].values(of) for name, of in with_score.items()})
    return found


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each variant, without those that have no values."""
    found = {name: float(of_seeds.mean()) for name, of_seeds in values.items()}
    return {name: round(value, 8) for name, value in found.items() if math.isfinite(value)}


def champion(runs: Runs, score: str = ACCURACY) -> dict[str, Any] | None:
    """The variant with the best mean validation score, and its best seed; None without a validation split.

    A diverged run counts in the mean and is not chosen.

    The validation score is the loss (dev_loss) if the study compares by log loss, among the variants whose outputs are
    probabilities; else the accuracy (dev_accuracy), also for scores such as balanced accuracy: the predictions on the
    validation split are not kept. The test set has no part in the choice, so the test score of the champion is not
    biased by it.
    """
    column, sign = SCORES[score].validation, -1 if SCORES[score].lower_is_better else 1
    candidates = {name: of for name, of in runs.items() if variants.has_score(of, score) and not of.diverged.all()}
    means = _means({name: sign * of.score(column) for name, of in candidates.items()})
    if not means:
        return None
    best = runs[max(means, key=means.__getitem__)]
    row = best.scores.loc[(sign * best.scores[column])[~best.diverged].idxmax()]
    found: dict[str, Any] = {"variant": best.variant, "seed": int(row["seed"]), "key": row["key"]}
    shown = dict.fromkeys(["dev_accuracy", column])
    found |= {name: float(row[name]) for name in shown}
    found |= {f"mean_{name}": round(float(best.score(name).mean()), 8) for name in shown}
    found["seeds"] = len(best.seeds)
    return found


def scores(runs: Runs, score: str = ACCURACY) -> pd.DataFrame:
    """Every score of the study: variant, seed, the scores on the test set, dev_accuracy, dev_loss.

    If the study's score is another function of the labels, it follows the other scores on the test set. If any run
    diverged, the last column is the epoch in which it did.
    """
    of_labels = score != ACCURACY and SCORES[score].of_labels is not None
    columns = ["variant", "seed", *metric_names(runs), *([score] if of_labels else []), "dev_accuracy", "dev_loss"]
    if any(of.diverged.any() for of in runs.values()):
        columns.append(DIVERGED)
    found = []
    for name, variant in runs.items():
        own = {score: SCORES[score].values(variant)} if of_labels else {}
        found.append(variant.scores.assign(variant=name, **own).reindex(columns=columns))
    return pd.concat(found, ignore_index=True)
