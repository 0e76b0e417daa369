"""Ridge regression: the search for the strength of the penalty, and the weights."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from many_seeds.output.plots import BLUE, ORANGE, drawable, panels, styled
from stages.aggregate.report.figures import RAISED
from stages.aggregate.report.parts import Part, Plot
from stages.aggregate.runs import VariantRuns

MOST_CLASSES = 20


def parts(shown: Sequence[VariantRuns]) -> list[Part]:
    found: list[Part] = []
    for variant in shown:
        if "alpha" in variant.curves:
            caption = (
                f"{variant.variant}: validation error by the strength of the ridge penalty; median where all seeds "
                "have the value."
            )
            found.append(Plot(f"alpha_{variant.variant}", alpha_search(variant), caption, _numbers(variant)))
        if variant.weights is not None:
            caption = f"{variant.variant}: weights of each class: positive blue, negative orange."
            found.append(Plot(f"weights_{variant.variant}", weights(variant.weights, variant.classes), caption))
    return found


@styled
def alpha_search(variant: VariantRuns) -> Figure:
    """Validation error by α: the grid of every seed, and the points of the golden-section searches."""
    drawn, axes = panels(4.4, rows=2)
    rows = variant.curves
    targets = (
        ("mse", "val_loss", "validation\nmean squared error"),
        ("accuracy", "val_accuracy", "validation\nerror rate"),
    )
    for ax, (target, column, label) in zip(axes[:, 0], targets, strict=True):
        error = rows[column] if target == "mse" else 1 - rows[column]
        coarse = rows.assign(error=error)[rows["search"] == "grid"]
        for _, seed in coarse.groupby("seed"):
            ax.plot(seed["alpha"], seed["error"], "-", color=BLUE, linewidth=0.5)
        median = common_median(coarse)
        ax.plot(median.index, median, "o-", color=BLUE, markersize=3, label="grid: seeds, median")
        fine = rows["search"] == target
        ax.plot(rows["alpha"][fine], error[fine], ".", color=ORANGE, markersize=3, label="golden-section search")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"2{str(round(math.log2(value))).translate(RAISED)}")
        ax.set_ylabel(label)
        ax.grid(axis="y")
    axes[1, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes[1, 0].set_xlabel("α (logarithmic)")
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, markerscale=2)
    return drawn


def _numbers(variant: VariantRuns) -> str:
    """The best point of the grid in words."""
    rows = variant.curves[variant.curves["search"] == "grid"]
    median = common_median(rows.assign(error=rows["val_loss"]))
    if median.empty:
        return ""
    return f"The lowest median of the validation error on the grid is {median.min():.4g}, at α = {median.idxmin():.4g}."


def common_median(coarse: pd.DataFrame) -> pd.Series:
    """The median error over the seeds by α, where all seeds have it: the grid of some may have been extended.

    Args:
        coarse: seed, alpha and error of each point of the grid, NaN in a seed that diverged.
    """
    known = coarse.dropna(subset="error")
    by_alpha = known.groupby("alpha")["error"].agg(["count", "median"])
    return by_alpha["median"][by_alpha["count"] == known["seed"].nunique()]


@styled
def weights(values: np.ndarray, classes: Sequence[str]) -> Figure:
    """The weight vectors [classes, height, width] of a linear classifier as images, one for each class."""
    shown = min(len(values), MOST_CLASSES)
    columns = min(5, shown)
    rows = -(-shown // columns)
    drawn, axes = panels(0.95 * rows, columns, rows)
    names, families = drawable(classes)
    # The largest weights belong to border pixels that are almost always blank; a scale up to them hides the others.
    limit = np.quantile(np.abs(values), 0.99)
    # Transparent around zero, so that the colour of the page shows through.
    around_zero = [mpl.colors.to_rgba(colour, 0) for colour in (ORANGE, BLUE)]
    colours = mpl.colors.LinearSegmentedColormap.from_list(
        "negative_positive",
        [(0.0, mpl.colors.to_rgba(ORANGE)), *((0.5, zero) for zero in around_zero), (1.0, mpl.colors.to_rgba(BLUE))],
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, name in zip(axes.flat, values[:shown], names, strict=False):
        ax.imshow(image, cmap=colours, vmin=-limit, vmax=limit)
        ax.set_title(name, loc="center", fontfamily=families)
    return drawn
