"""The variants: their scores over the seeds."""

from typing import Any

import pandas as pd

from many_seeds.statistics import intervals
from stages.aggregate.report.parts import Column, Part, Table, number, span, text
from stages.aggregate.runs import Runs, VariantRuns, metric_names
from stages.aggregate.sections import calibration
from stages.study.params import Params, Statistics
from stages.study.scores import ACCURACY, SCORES


def parts(runs: Runs, study: Params) -> list[Part]:
    others, scores = metric_names(runs)[2:], table(runs, study.statistics)
    columns: list[Column] = [
        text("variant", "variant"),
        *columns_of_scores(study.statistics.score),
        *column_of_diverged(scores),
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
    return [Table("variants", "All variants", caption, scores, columns)]


def columns_of_scores(score: str = ACCURACY) -> list[Column]:
    """The columns of `row`; the first score is that of the study."""
    found = [
        number("test accuracy", "accuracy", "{:.2f} %", 100),
        span("interval", "low", "high", "{:.2f}", 100),
        number("n", "n"),
        number("sd", "sd", "{:.2f}", 100),
        number("ensemble", "vote_accuracy", "{:.2f} %", 100),
    ]
    if score == ACCURACY:
        return found
    of = SCORES[score]
    mean, bound = ("{:.2f} %", "{:.2f}") if of.is_share else ("{:.4f}", "{:.4f}")
    header = of.label if of.is_share else of.value_label
    n = found.pop(2)
    return [
        number(header, score, mean, of.scale),
        span(f"interval of {of.label}", f"{score}_low", f"{score}_high", bound, of.scale),
        n,
        number(f"sd of {of.label}", f"{score}_sd", bound, of.scale),
        *found,
    ]


def with_diverged(scores: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """The table with a column "diverged", the number of diverged runs of each `variant`, if any run diverged."""
    counts = [int(runs[name].diverged.sum()) for name in scores["variant"]]
    return scores.assign(diverged=counts) if any(counts) else scores


def column_of_diverged(scores: pd.DataFrame) -> list[Column]:
    """The column of a table of `with_diverged`, if it has one."""
    return [number("diverged runs", "diverged")] if "diverged" in scores else []


def row(variant: VariantRuns, settings: Statistics) -> dict[str, Any]:
    """n, mean accuracy, its interval and standard deviation, as fractions; the same of the study's score."""
    of = summarized(variant, ACCURACY, settings)
    found = {"n": len(variant.seeds), "accuracy": of.pop("mean"), **of}
    if settings.score != ACCURACY:
        of = summarized(variant, settings.score, settings)
        found[settings.score] = of.pop("mean")
        found |= {f"{settings.score}_{name}": value for name, value in of.items()}
    return found


def has_score(variant: VariantRuns, score: str) -> bool:
    """Whether the models of a variant have a score: some need probabilities."""
    return variant.probabilities or not SCORES[score].needs_probabilities


def summarized(variant: VariantRuns, score: str, settings: Statistics) -> dict[str, float | None]:
    """The mean of a score over the seeds, the low and the high bound of its interval, and its standard deviation (sd).

    Shares are fractions; all are None for a variant without the score, and sd for a single seed.
    """
    of = SCORES[score]
    if not has_score(variant, score):
        return dict.fromkeys(("mean", "low", "high", "sd"))
    values, resolution = of.values(variant), of.resolution(variant.truth) / of.scale
    found = intervals.interval(values, level=settings.alpha, resolution=resolution, design=settings.design)
    return {
        "mean": float(values.mean()),
        "low": found.low,
        "high": found.high,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def table(runs: Runs, settings: Statistics) -> pd.DataFrame:
    """A row for each variant: accuracy, accuracy of the ensemble, loss, other test scores, calibration, epochs.

    If any run diverged, the number of those that did, too.
    """
    rows, others = [], metric_names(runs)[2:]
    for name, variant in runs.items():
        of: dict[str, Any] = {"variant": name, **row(variant, settings), "vote_accuracy": variant.ensemble_accuracy}
        loss, epochs = variant.score("test_loss"), variant.score("epochs")
        of |= {"loss": float(loss.mean()), "loss_sd": float(loss.std(ddof=1)) if len(loss) > 1 else None}
        of |= {name: float(variant.score(name).mean()) for name in others}
        of |= {"calibration_error": calibration.mean_error(variant.calibration), "epochs": float(epochs.mean())}
        rows.append(of)
    return with_diverged(pd.DataFrame(rows), runs)
