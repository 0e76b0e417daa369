"""The variants: their scores over the seeds."""

from typing import Any

import pandas as pd

from many_seeds.statistics import intervals
from stages.aggregate.report.parts import Column, Part, Table, number, span, text
from stages.aggregate.runs import Runs, VariantRuns, metric_names
from stages.aggregate.sections import calibration
from stages.study.params import Params, Statistics


def parts(runs: Runs, study: Params) -> list[Part]:
    others = metric_names(runs)[2:]
    columns: list[Column] = [
        text("variant", "variant"),
        *columns_of_scores(),
        number("test loss", "loss", "{:.4f}"),
        number("sd of loss", "loss_sd", "{:.4f}"),
        *(number(name.replace("_", " "), name, "{:.4f}") for name in others),
        number("calibration error", "calibration_error", "{:.2f}", 100),
        number("epochs", "epochs", "{:.1f}"),
    ]
    caption = (
        f"Each interval alone has {study.statistics.percent} confidence. Ensemble: soft voting of the first seeds, at "
        "most ten. Loss: cross-entropy where outputs are probabilities, else squared error. Standard deviation (sd) "
        "and expected calibration error (15 bins) in percentage points."
    )
    return [Table("variants", "All variants", caption, table(runs, study.statistics), columns)]


def columns_of_scores() -> list[Column]:
    return [
        number("n", "n"),
        number("test accuracy", "accuracy", "{:.2f} %", 100),
        span("interval", "low", "high", "{:.2f}", 100),
        number("sd", "sd", "{:.2f}", 100),
        number("ensemble", "vote_accuracy", "{:.2f} %", 100),
    ]


def row(variant: VariantRuns, settings: Statistics) -> dict[str, Any]:
    """n, mean accuracy, its interval and standard deviation, as fractions."""
    step = 1 / len(variant.truth)
    found = intervals.interval(variant.accuracy, level=settings.alpha, resolution=step, design=settings.design)
    return {
        "n": len(variant.seeds),
        "accuracy": float(variant.accuracy.mean()),
        "low": found.low,
        "high": found.high,
        "sd": float(variant.accuracy.std(ddof=1)) if len(variant.seeds) > 1 else None,
    }


def table(runs: Runs, settings: Statistics) -> pd.DataFrame:
    """A row for each variant: accuracy, accuracy of the ensemble, loss, other test scores, calibration, epochs."""
    rows, others = [], metric_names(runs)[2:]
    for name, variant in runs.items():
        of: dict[str, Any] = {"variant": name, **row(variant, settings), "vote_accuracy": variant.ensemble_accuracy}
        loss, epochs = variant.score("test_loss"), variant.score("epochs")
        of |= {"loss": float(loss.mean()), "loss_sd": float(loss.std(ddof=1)) if len(loss) > 1 else None}
        of |= {name: float(variant.score(name).mean()) for name in others}
        of |= {"calibration_error": calibration.mean_error(variant.calibration), "epochs": float(epochs.mean())}
        rows.append(of)
    return pd.DataFrame(rows)
