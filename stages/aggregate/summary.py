"""The files that programs read: means, DVC's metrics, the champion, all scores."""

import math
from typing import Any

import pandas as pd

from stages.aggregate.runs import Runs, metric_names
from stages.aggregate.sections import variants
from stages.study.params import Statistics


def means(runs: Runs, settings: Statistics) -> dict[str, Any]:
    """Mean and sd of every test score of each variant, the interval of its accuracy, and its ensemble's accuracy."""
    names, found = metric_names(runs), {}
    for variant_name, variant in runs.items():
        of = variants.row(variant, settings)
        values = {name: variant.accuracy if name == "test_accuracy" else variant.score(name) for name in names}
        scores = {name: {"mean": float(of_seeds.mean())} for name, of_seeds in values.items()}
        if len(variant.seeds) > 1:
            for name, of_seeds in values.items():
                scores[name]["sd"] = float(of_seeds.std(ddof=1))
        if math.isfinite(of["low"]):
            scores["test_accuracy"] |= {"ci_low": of["low"], "ci_high": of["high"]}
        rounded = {name: {key: round(value, 8) for key, value in score.items()} for name, score in scores.items()}
        found[variant_name] = {"seeds": len(variant.seeds), **rounded, "ensemble_accuracy": variant.ensemble_accuracy}
    return found


def accuracy(runs: Runs) -> dict[str, dict[str, float]]:
    """The metrics of `dvc metrics`: mean accuracy of each variant on the test set and its validation splits (dev)."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("test", "dev"):
        mean = {name: float(variant.score(f"{kind}_accuracy").mean()) for name, variant in runs.items()}
        found[kind] = {name: round(value, 8) for name, value in mean.items() if math.isfinite(value)}
    return found


def champion(runs: Runs) -> dict[str, Any] | None:
    """The variant with the highest mean validation accuracy, and its best seed; None without a validation split.

    The test set has no part in the choice, so the test score of the champion is not biased by it.
    """
    means = accuracy(runs)["dev"]
    if not means:
        return None
    best = runs[max(means, key=means.__getitem__)]
    row = best.scores.loc[best.scores["dev_accuracy"].idxmax()]
    return {
        "variant": best.variant,
        "seed": int(row["seed"]),
        "key": row["key"],
        "dev_accuracy": float(row["dev_accuracy"]),
        "mean_dev_accuracy": means[best.variant],
        "seeds": len(best.seeds),
    }


def scores(runs: Runs) -> pd.DataFrame:
    """Every score of the study: variant, seed, the scores on the test set, dev_accuracy, dev_loss."""
    columns = ["variant", "seed", *metric_names(runs), "dev_accuracy", "dev_loss"]
    found = [variant.scores.assign(variant=name).reindex(columns=columns) for name, variant in runs.items()]
    return pd.concat(found, ignore_index=True)
