"""The forest plot of results."""

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from many_seeds.errors import UserError
from many_seeds.output.plots import COLORS, FAINT, FONT_SIZE, INK, ORANGE, font_families, margin_band, panels, styled
from many_seeds.output.text import has_new_images, number, number_forms, plain

if TYPE_CHECKING:
    from many_seeds.results import Result, Results

MAX_ROWS = 200
ROW_HEIGHT, AXIS_HEIGHT, LEGEND_LINE = 0.33, 1.1, 0.17  # inches
FEW_TICKS = 3  # on each side of a logarithmic axis
LOGARITHMIC = 30  # times the margin: differences beyond have a logarithmic axis
LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"


@styled
def forest(
    results: "Results",
    labels: Sequence[str] | None = None,
    references: Sequence[float | None] = (),
    references_label: str = "",
    notes: Sequence[str] | None = None,
    confidence: str = "",
) -> Figure:
    """A forest plot: a row with the interval of each result, and the equivalence margin as a band.

    The interval for new test images is a thin line.

    Args:
        results: at most `MAX_ROWS` results.
        labels: of the rows; None for "a → b", shortened to fit.
        references: a difference to mark in each row, None for a row without one.
        references_label: name of the references in the legend.
        notes: what follows the difference in each row; None for the verdicts.
        confidence: the last line of the axis label; "" for the simultaneous confidence of the intervals.

    Returns:
        The figure, `plots.WIDTH` inches wide.

    Raises:
        UserError: there are no results, or more than `MAX_ROWS`.
    """
    _check_rows(len(results))
    margin = results.settings.margin
    legend_height = LEGEND_LINE if has_new_images(results) else 0.0
    figure, axes = panels(ROW_HEIGHT * len(results) + AXIS_HEIGHT + legend_height)
    ax, fitting = axes[0, 0], _FittingText(figure, [results.metric, *(f"{one.a}{one.b}" for one in results)])
    # First, so that they are one column of the legend.
    if has_new_images(results):
        ax.plot([], [], color=INK, linewidth=2.5, label=f"these {results.item}s")
        ax.plot([], [], color=INK, linewidth=0.9, label=f"new {results.item}s too")
    if margin:
        margin_band(ax, margin, vertical=True, label=f"equivalence margin: ±{plain(margin)}")
    ax.axvline(0, color=FAINT, linewidth=1)
    marked = {len(results) - 1 - row: value for row, value in enumerate(references) if value is not None}
    _set_scale(ax, results, list(marked.values()))
    for row, (result, form) in enumerate(zip(results, number_forms(results), strict=True)):
        y = len(results) - 1 - row
        _draw_interval(ax, y, result)
        difference = "" if math.isnan(result.difference) else f"{number(result.difference, form)} "
        verdict = f"{difference}{notes[row] if notes else result.verdict}"
        label = labels[row] if labels else fitting.pair(result.a, result.b, verdict)
        _draw_row_text(ax, y, label, verdict, fitting)
    if marked:
        ax.plot(
            list(marked.values()), list(marked), "D", color=ORANGE, markersize=4, label=references_label, clip_on=False
        )
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.5, len(results) - 0.1)
    ax.set_xlabel(
        f"{_axis_label(results, ax, fitting)}\n{confidence or _confidence(results)}", parse_math=False, **fitting.font
    )
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _check_rows(count: int) -> None:
    if not count:
        raise UserError("a figure shows at least one result, received none")
    if count > MAX_ROWS:
        raise UserError(
            f"a figure has room for {MAX_ROWS} pairs, received {count:,}: choose some (--pairs; in Python, pairs=…)"
        )


def _draw_interval(ax: Axes, y: int, result: "Result") -> None:
    color = COLORS[result.verdict]
    low, high = result.low_new_images, result.high_new_images
    if low is not None and high is not None and math.isfinite(low):
        ax.hlines(y, low, high, color=color, linewidth=0.9)
    if not math.isfinite(result.low):
        ax.axhline(y, color=color, linewidth=1, linestyle=":")
    elif result.low <= result.high:  # not empty
        ax.hlines(y, result.low, result.high, color=color, linewidth=2.5)
    ax.plot(result.difference, y, "o", color=color, markersize=5.5, markeredgecolor="white")


def _draw_row_text(ax: Axes, y: int, label: str, verdict: str, fitting: "_FittingText") -> None:
    for x, alignment, text in ((0, "left", label), (1, "right", verdict)):
        ax.text(
            x,
            y + 0.22,
            text,
            transform=ax.get_yaxis_transform(),
            ha=alignment,
            va="bottom",
            parse_math=False,
            **fitting.font,
        )


def _axis_label(results: "Results", ax: Axes, fitting: "_FittingText") -> str:
    unit = f", {results.unit}" if results.unit else ""
    difference = f" of b minus that of a{unit}"
    metric = fitting.shorten(results.metric, fitting.room - fitting.width(difference))
    side = "left" if results.settings.lower_is_better else "right"
    scale = " (symmetric log scale)" if ax.get_xscale() == "symlog" else ""
    return f"{metric}{difference}\n{side} of 0: b is better{scale}"


def _confidence(results: "Results") -> str:
    subject = "the intervals hold simultaneously" if results.family > 1 else "the interval holds"
    return f"{subject} with {plain(100 * results.settings.confidence)} % confidence"


def _set_scale(ax: Axes, results: "Results", references: Sequence[float]) -> None:
    """A linear axis; a symmetric logarithmic one where differences are much larger than the margin."""
    margin = results.settings.margin
    values = [*references, *(value for one in results for value in (one.low, one.high, one.difference))]
    values += [value for one in results for value in (one.low_new_images, one.high_new_images) if value is not None]
    finite = np.array([value for value in values if math.isfinite(value)] or [0.0])
    largest = np.abs(finite).max()
    if margin and largest > LOGARITHMIC * margin:
        ax.set_xscale("symlog", linthresh=2 * margin, linscale=0.6)
        ticks = _logarithmic_ticks(2 * margin, 2 * largest)
        ax.set_xticks(ticks, [number(tick, "{:+g}") if tick else "0" for tick in ticks])
        ax.xaxis.set_minor_locator(ax.xaxis.get_major_locator())
    low, high = min(finite.min(), -1.2 * margin), max(finite.max(), 1.2 * margin)
    if low < high:
        ax.set_xlim(low * (1.1 if low < 0 else 0.9), high * (1.1 if high > 0 else 0.9))
    ax.grid(axis="x")


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """0, and the powers of ten from `low` to `high` with both signs; three times these too if they are few."""
    powers = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))]
    positive = [power for power in powers if low <= power < high]
    if len(positive) < FEW_TICKS:
        positive = [tick for power in powers for tick in (power, 3 * power) if low <= tick < high]
    return [*(-tick for tick in reversed(positive)), 0.0, *positive]


class _FittingText:
    """Text in a font that has its characters, shortened to the width of a figure.

    Attributes:
        room: the width of a line, in points.
        font: matplotlib's arguments for the font.
    """

    def __init__(self, figure: Figure, texts: Sequence[str]) -> None:
        self.room = 72 * figure.get_figwidth() - 20
        families = font_families({*"".join(texts)})
        self.font: dict[str, Any] = {"fontsize": FONT_SIZE, "family": families}
        self._properties = FontProperties(family=families, size=FONT_SIZE)
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._points_per_pixel = 72 / figure.dpi

    def width(self, text: str) -> float:
        """The width of a text, in points."""
        pixels = self._renderer.get_text_width_height_descent(text, self._properties, ismath=False)[0]
        return self._points_per_pixel * pixels

    def shorten(self, text: str, room: float) -> str:
        """The text, with an ellipsis in place of its middle if it is wider than `room`, in points."""

        def shortened(kept: int) -> str:
            return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

        if self.width(text) <= room:
            return text
        too_long = bisect.bisect_right(range(len(text)), room, key=lambda kept: self.width(shortened(kept)))
        return shortened(max(too_long - 1, 2))

    def pair(self, a: str, b: str, beside: str) -> str:
        """ "a → b" with room for another text beside it; a name shorter than half of the room leaves the rest to b."""
        room = self.room - self.width(f"{beside} → ") - 10
        a = self.shorten(a, max(room / 2, room - self.width(b)))
        b = self.shorten(b, room - self.width(a))
        # Without the marks, names in Arabic or Hebrew would be drawn in reverse order.
        return f"{LEFT_TO_RIGHT}{a}{LEFT_TO_RIGHT} → {LEFT_TO_RIGHT}{b}"
