"""The figures of the study: data in, matplotlib figures out. Saving them apart."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stages.aggregate.runs import VariantRuns
from stages.params import Statistics

Arguments = ParamSpec("Arguments")

INK, FAINT = "#22272e", "#c3c9d0"
# Okabe and Ito's colours, which people with colour blindness tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "study",
    "figure.dpi": 100,
}


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, title: str, name: str) -> str:
    """The figure as an <svg> element of a page: it scales, takes the page's text colour, and says what it shows.

    Args:
        figure: to draw.
        title: what it shows, for those who can't see it.
        name: sets its ids apart from those of the page's other figures.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    head = re.search(r'<svg[^>]*?width="([\d.]+)pt"[^>]*?>', text, re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert head is not None
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", text[head.end() :], flags=re.DOTALL)
    # The page's fonts, in place of matplotlib's list of all that it might have used; and the page's ink.
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", body).replace(INK, "currentColor")
    for identifier in set(re.findall(r'id="([^"]+)"', body)):
        body = re.sub(rf'(id="|url\(#|href="#){re.escape(identifier)}(?=["\)])', rf"\g<1>{name}-{identifier}", body)
    width = float(head[1]) * 4 / 3  # points to CSS pixels
    return f'<svg viewBox="{box[1]}" style="max-width: {width:.0f}px" role="img" aria-label="{title}">{body}'


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in the study's style, whatever the caller's settings."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


@styled
def approaches(table: pd.DataFrame, settings: Statistics) -> Figure:
    """Test error of each approach on a logarithmic axis, with its interval over seeds and digits, and 2020's figure."""
    figure, axes = _figure(6.4, 0.55 * len(table) + 1.1)
    ax = axes[0, 0]
    y = np.arange(len(table))[::-1]
    error = 100 * (1 - table["accuracy"].to_numpy(float))
    lowest, highest = error.min(), error.max()
    if table["digits_low"].notna().all():
        low, high = (100 * (1 - table[name].to_numpy(float)) for name in ("digits_high", "digits_low"))
        low = np.maximum(low, error / 20)  # an interval may reach 0 %, which a logarithmic axis does not
        lowest, highest = low.min(), high.max()
        ax.hlines(y, low, high, color=BLUE, linewidth=2.5)
    ax.plot(
        error,
        y,
        "o",
        color=BLUE,
        markersize=7,
        label=f"this study: mean, {settings.percent} interval for new digits too",
    )
    then = table["accuracy_2020"].astype(float)
    if then.notna().any():
        ax.plot(100 * (1 - then), y, "|", color=ORANGE, markersize=16, markeredgewidth=2, label="2020")
    for value, height in zip(error, y, strict=True):
        ax.annotate(f"{value:.2f} %", (value, height), (0, 11), textcoords="offset points", ha="center", fontsize=8.5)
    ax.set_yticks(y, table["approach"])
    ax.set_xscale("log")
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if lowest * 0.6 < tick < highest * 1.7]
    ax.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    ax.xaxis.minorticks_off()
    ax.set_xlim(lowest * 0.7, highest * 1.4)
    ax.set_ylim(-0.6, len(table) - 0.2)
    ax.set_xlabel("test error (logarithmic)")
    ax.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def pair(a: VariantRuns, b: VariantRuns) -> Figure:
    """Test accuracy of each seed for two variants, with their means."""
    figure, axes = _figure(6.4, 3.2)
    ax = axes[0, 0]
    x = np.arange(len(a.scores))
    for variant, color, shift, marker in ((a, ORANGE, -0.12, "s"), (b, BLUE, 0.12, "o")):
        ax.axhline(variant.accuracy.mean(), color=color, linewidth=1, linestyle="--")
        ax.plot(
            x + shift,
            variant.accuracy,
            marker,
            color=color,
            label=f"{variant.name}, mean {variant.accuracy.mean():.4f}",
        )
    for i, (low, high) in enumerate(zip(a.accuracy, b.accuracy, strict=True)):
        ax.plot([i - 0.12, i + 0.12], [low, high], color=FAINT, linewidth=1, zorder=0)
    ax.set_xticks(x, a.scores["seed"].astype(str))
    ax.set_xlabel("seed")
    ax.set_ylabel("test accuracy")
    ax.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def learning_curves(variant: VariantRuns) -> Figure:
    """Loss and accuracy by epoch: the median over the seeds still training, and a band from lowest to highest."""
    figure, axes = _figure(6.4, 2.9, columns=2)
    for ax, score in zip(axes[0], ("loss", "accuracy"), strict=True):
        for column, label, color in ((score, "training, with dropout", ORANGE), (f"val_{score}", "dev split", BLUE)):
            table = variant.curves.pivot_table(index="epoch", columns="seed", values=column)
            if table.empty:
                continue
            ax.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=color, alpha=0.25, linewidth=0)
            lone = "o" if len(table) == 1 else ""
            ax.plot(
                table.index, table.median(axis=1), color=color, marker=lone, label=label if score == "loss" else None
            )
        ax.set_xlabel("epoch")
        ax.set_title(score)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    axes[0, 0].yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    low, high = axes[0, 0].get_ylim()
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= tick <= high]
    axes[0, 0].set_yticks(ticks)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def confusion(variant: VariantRuns) -> Figure:
    """How many test images of each class go to each other class, on average over seeds; right answers left blank."""
    seeds = len(variant.predicted)
    counts = np.zeros((10, 10))
    np.add.at(counts, (np.tile(variant.truth, seeds), variant.predicted.ravel()), 1 / seeds)
    errors = counts.copy()
    np.fill_diagonal(errors, np.nan)
    figure, axes = _figure(4.6, 4.3)
    ax = axes[0, 0]
    ax.imshow(errors, cmap="Blues", vmin=0, vmax=max(np.nanmax(errors), 1))
    for i in range(10):
        for j in range(10):
            value = counts[i, j]
            if i == j or value >= 0.05:
                text = f"{value:.0f}" if i == j or value >= 9.95 else f"{value:.1f}"
                dark = i != j and value > 0.55 * max(np.nanmax(errors), 1)
                ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else _ink(i != j))
    ax.set_xticks(range(10))
    ax.set_yticks(range(10))
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return figure


def _ink(on_colour: bool) -> str:
    # Numbers on the map's own light cells stay dark in a dark page; those on its background follow the page.
    return "#101418" if on_colour else INK


@styled
def alpha_search(variant: VariantRuns) -> Figure:
    """Dev error against α: the coarse grid of every seed, and the points of the golden-section searches."""
    figure, axes = _figure(6.4, 2.9, columns=2)
    rows = variant.curves
    panels = (("mse", "val_loss", "dev mean squared error"), ("accuracy", "val_accuracy", "dev error rate"))
    for ax, (target, column, label) in zip(axes[0], panels, strict=True):
        error = rows[column] if target == "mse" else 1 - rows[column]
        coarse = rows["search"] == "grid"
        for _, seed in rows[coarse].assign(error=error).groupby("seed"):
            ax.plot(seed["alpha"], seed["error"], "-", color=BLUE, alpha=0.35, linewidth=1)
        median = rows[coarse].assign(error=error).groupby("alpha")["error"].median()
        ax.plot(median.index, median, "o-", color=BLUE, markersize=3, label="grid: each seed, and the median")
        fine = rows["search"] == target
        ax.plot(rows["alpha"][fine], error[fine], ".", color=ORANGE, markersize=3, label="golden-section search")
        ax.set_xscale("log", base=2)
        ax.set_xlabel("α (logarithmic)")
        ax.set_title(label)
        ax.grid(axis="y")
    axes[0, 1].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, markerscale=2)
    return figure


@styled
def weights(variant: VariantRuns) -> Figure:
    """The ten weight vectors of a linear classifier: blue pixels speak for the class, orange ones against."""
    assert variant.weights is not None
    figure, axes = _figure(6.4, 2.9, columns=5, rows=2)
    # The few largest weights belong to border pixels that are almost always blank, and would hide the others.
    limit = np.quantile(np.abs(variant.weights), 0.99)
    colours = mpl.colors.LinearSegmentedColormap.from_list("against_for", [ORANGE, "#f7f7f7", BLUE])
    for digit, ax in enumerate(axes.flat):
        ax.imshow(variant.weights[digit], cmap=colours, vmin=-limit, vmax=limit)
        ax.set_title(str(digit), loc="center")
        ax.set_axis_off()
    return figure


@styled
def misclassified(variant: VariantRuns, most: int = 24) -> Figure:
    """The test digits that most seeds get wrong: true class, what most of the wrong seeds see, how many are wrong."""
    wrong = (variant.predicted != variant.truth).sum(axis=0)
    shown = [i for i in range(min(most, len(variant.hardest))) if wrong[variant.hardest[i]] > 0]
    titles = []
    for i in shown:
        image = int(variant.hardest[i])
        truth = variant.truth[image]
        seen = variant.predicted[:, image]
        mistaken = np.bincount(seen[seen != truth]).argmax()
        titles.append(f"{truth} → {mistaken}\n{wrong[image]} of {len(seen)}")
    return _gallery([variant.hardest_images[i] for i in shown], titles)


@styled
def hardest(table: pd.DataFrame, images: Sequence[np.ndarray]) -> Figure:
    """The test digits that most runs of the whole study get wrong."""
    return _gallery(
        images, [f"{row.truth} → {row.seen}\n{100 * row.wrong / row.runs:.0f} % wrong" for row in table.itertuples()]
    )


def _gallery(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 8) -> Figure:
    """Images uint8 [28, 28] in rows, each below its title."""
    # One pair of axes for all: one for each takes ten times as long.
    side, width, height = 28, 35, 46  # of an image, and of its place with the title, in pixels
    rows = max(1, -(-len(images) // columns))
    sheet = np.zeros((rows * height + 2, columns * width), np.uint8)
    figure, axes = _figure(6.4, 6.4 * rows * height / (columns * width))
    ax = axes[0, 0]
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        bottom, left = (place // columns + 1) * height, (place % columns) * width + (width - side) // 2
        sheet[bottom - side : bottom, left : left + side] = image
        ax.text(left + side / 2, bottom - side - 2, title, ha="center", va="bottom", fontsize=7.5)
    ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    ax.set_axis_off()
    return figure


@styled
def forest(table: pd.DataFrame, settings: Statistics) -> Figure:
    """Differences with both intervals, one above the other, and the margin of equivalence as a band."""
    figure, axes = _figure(6.4, 0.55 * len(table) + 1.2)
    ax = axes[0, 0]
    y = np.arange(len(table))[::-1]
    margin = settings.equivalence_margin
    ax.axvspan(-margin, margin, color=GREEN, alpha=0.15, linewidth=0, label=f"equivalent (±{margin:g} points)")
    ax.axvline(0, color=FAINT, linewidth=1)
    if table["seeds_low"].notna().all():
        # One above the other, since either may be the wider.
        lines = (("seeds", 0.08, 4.0, "these digits"), ("digits", -0.1, 1.5, "new digits too"))
        for name, shift, width, words in lines:
            low, high = (table[f"{name}_{end}"].astype(float) for end in ("low", "high"))
            ax.hlines(y + shift, low, high, color=BLUE, linewidth=width, label=f"{settings.percent}: {words}")
    ax.plot(table["difference"], y + 0.08, "o", color=BLUE, markersize=7, markeredgecolor="white")
    if "difference_2020" in table and table["difference_2020"].notna().any():
        ax.plot(
            table["difference_2020"].astype(float), y - 0.26, "D", color=ORANGE, markersize=5, label="2020, one seed"
        )
    ax.set_yticks(y, table["b"])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.set_xlabel("difference of test accuracy, percentage points")
    ax.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def calibration(variants: Sequence[VariantRuns]) -> Figure:
    """Accuracy minus confidence against confidence, over all seeds: below zero a model is too sure of itself."""
    figure, axes = _figure(6.4, 3.0)
    ax = axes[0, 0]
    ax.axhline(0, color=FAINT, linewidth=1)
    for variant, color, marker in zip(variants, (ORANGE, BLUE, PURPLE, GREEN) * 9, "sovD" * 9, strict=False):
        bins = variant.calibration
        totals = bins.assign(c=bins["confidence"] * bins["images"], a=bins["accuracy"] * bins["images"])
        sums = totals.groupby("bin")[["images", "c", "a"]].sum()
        sums = sums[sums["images"] >= 30]  # an accuracy of fewer images is mostly chance
        confidence, accuracy = sums["c"] / sums["images"], sums["a"] / sums["images"]
        ax.plot(confidence, 100 * (accuracy - confidence), marker=marker, color=color, label=variant.name)
    ax.set_xlabel("confidence: probability given to the predicted class")
    ax.set_ylabel("accuracy − confidence, points")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=2)
    return figure
