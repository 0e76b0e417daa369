"""What programs read of the study: its means, DVC's metric, the champion, every score."""

import math
from typing import Any

import pandas as pd

from stages.aggregate import variants
from stages.aggregate.runs import Runs
from stages.params import Statistics


def means(runs: Runs, settings: Statistics) -> dict[str, Any]:
    """For each variant the mean and sd of accuracy and loss, the interval of the accuracy, and the vote's accuracy."""
    found = {}
    for name, variant in runs.items():
        of, losses = variants.row(variant, settings), variant.score("test_loss")
        accuracy, loss = {"mean": of["accuracy"]}, {"mean": float(losses.mean())}
        if variant.seeds > 1:
            accuracy["sd"], loss["sd"] = of["sd"], float(losses.std(ddof=1))
        if math.isfinite(of["low"]):
            accuracy |= {"ci_low": of["low"], "ci_high": of["high"]}
        found[name] = {
            "seeds": variant.seeds,
            "test_accuracy": {key: round(value, 8) for key, value in accuracy.items()},
            "test_loss": {key: round(value, 8) for key, value in loss.items()},
            "ensemble_accuracy": variant.vote_accuracy,
        }
    return found


def accuracy(runs: Runs) -> dict[str, dict[str, float]]:
    """What `dvc metrics` shows: the mean accuracy of each variant on the test set, and on the dev sets of its seeds."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("test", "dev"):
        mean = {name: float(variant.score(f"{kind}_accuracy").mean()) for name, variant in runs.items()}
        found[kind] = {name: round(value, 8) for name, value in mean.items() if math.isfinite(value)}
    return found


def champion(runs: Runs) -> dict[str, Any] | None:
    """The variant with the highest mean dev accuracy and its best seed by dev accuracy; None if none has a dev split.

    Never by a test score: it could not be reported afterwards.
    """
    means = accuracy(runs)["dev"]
    if not means:
        return None
    best = runs[max(means, key=means.__getitem__)]
    row = best.scores.loc[best.scores["dev_accuracy"].idxmax()]
    return {
        "variant": best.name,
        "seed": int(row["seed"]),
        "key": row["key"],
        "dev_accuracy": float(row["dev_accuracy"]),
        "mean_dev_accuracy": means[best.name],
        "seeds": best.seeds,
    }


def scores(runs: Runs) -> pd.DataFrame:
    """Every score of the study: variant, seed, test_accuracy, test_loss, dev_accuracy, dev_loss."""
    columns = ["variant", "seed", "test_accuracy", "test_loss", "dev_accuracy", "dev_loss"]
    found = [variant.scores.assign(variant=name).reindex(columns=columns) for name, variant in runs.items()]
    return pd.concat(found, ignore_index=True)
