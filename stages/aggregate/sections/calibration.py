"""The calibration of the models: accuracy compared with confidence."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from many_seeds.output.plots import BLUE, FAINT, GREEN, GREY, ORANGE, PURPLE, panels, styled
from stages.aggregate.report.parts import Part, Plot
from stages.aggregate.runs import VariantRuns

FEWEST = 30  # images of a bin that is drawn
# Five colours and nine markers: no two of the first 45 variants share both.
LINES, MARKERS = (ORANGE, BLUE, PURPLE, GREEN, GREY), "sovD^P*<>"


def parts(shown: Sequence[VariantRuns]) -> list[Part]:
    calibrated = [variant for variant in shown if variant.probabilities]
    if not calibrated:
        return []
    caption = (
        f"Accuracy minus confidence over all seeds, in bins of {FEWEST} test images or more: negative where a model is "
        "overconfident."
    )
    errors = {of.variant: mean_error(of.calibration) for of in calibrated}
    numbers = "; ".join(f"{name} {100 * error:.2f}" for name, error in errors.items() if error is not None)
    return [
        Plot("calibration", figure(calibrated), caption, f"Expected calibration error in percentage points: {numbers}.")
    ]


def expected_error(images: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> float:
    """Expected calibration error, as a fraction.

    Guo et al. 2017, "On calibration of modern neural networks", ICML, section 2, equation 3.

    Args:
        images: number of images in each bin, [bins].
        confidence: their mean probability, [bins].
        accuracy: the share of them that is classified correctly, [bins].

    Raises:
        ValueError: there are no images.
    """
    if np.sum(images) <= 0:
        raise ValueError(f"Expected images in the bins, received {np.sum(images):g}.")
    return float(np.average(np.abs(confidence - accuracy), weights=images))


def mean_error(bins: pd.DataFrame) -> float | None:
    """Mean over the seeds of the expected error, from the rows of calibration.csv; None where there are none."""
    errors = [
        expected_error(*(of[name].to_numpy(float) for name in ("images", "confidence", "accuracy")))
        for _, of in bins.groupby("seed")
    ]
    return float(np.mean(errors)) if errors else None


@styled
def figure(variants: Sequence[VariantRuns]) -> Figure:
    """Accuracy minus confidence against confidence, over all seeds."""
    drawn, axes = panels(3.0)
    ax = axes[0, 0]
    ax.axhline(0, color=FAINT, linewidth=1)
    for variant, color, marker in zip(variants, cycle(LINES), cycle(MARKERS), strict=False):
        bins = variant.calibration
        totals = bins.assign(c=bins["confidence"] * bins["images"], a=bins["accuracy"] * bins["images"])
        sums = totals.groupby("bin")[["images", "c", "a"]].sum()
        sums = sums[sums["images"] >= FEWEST]
        confidence, accuracy = sums["c"] / sums["images"], sums["a"] / sums["images"]
        away = 100 * (accuracy - confidence)
        ax.plot(confidence, away, marker=marker, markersize=4, color=color, label=variant.variant)
    ax.set_xlabel("confidence: probability of the predicted class")
    ax.set_ylabel("accuracy − confidence\n(percentage points)")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y")
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
