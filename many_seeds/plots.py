"""Figures of results: the forest plot, and the style that all figures share."""

import bisect
import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from many_seeds import files
from many_seeds.errors import UserError
from many_seeds.text import number, number_forms, plain

if TYPE_CHECKING:
    from many_seeds.comparisons import Results

Arguments = ParamSpec("Arguments")

WIDTH = 4.0  # inches: a phone shows a figure of this width in its own size
MAX_ROWS = 200
FORMATS = ("png", "svg", "pdf")
INK, FAINT = "#22272e", "#c3c9d0"
# The palette of Okabe and Ito, which people with colour blindness can distinguish.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b8794"
COLORS = {"better": BLUE, "worse": ORANGE, "equivalent": GREEN, "undecided": GREY, "unchanged": GREY}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "study",
    "figure.dpi": 100,
}


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in this style, whatever the caller's settings."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE), _missing_glyphs_ignored():
            figure = draw(*args, **kwargs)
            # Laid out once, for all files that are made of it.
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine("none")
            return figure

    return drawn


@contextlib.contextmanager
def _missing_glyphs_ignored() -> Iterator[None]:
    """No warning for a character that no installed font has: its place shows a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def panels(height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of this height in inches, and its axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def write(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix of the path.

    Raises:
        UserError: another suffix, or the file can't be written.
    """
    kind = check_format(path)
    buffer = io.BytesIO()
    with _missing_glyphs_ignored():
        figure.savefig(buffer, format=kind, dpi=160, facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def check_format(path: Path) -> str:
    """The format of a figure by its suffix.

    Raises:
        UserError: the suffix is none of `FORMATS`.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"a figure should end in .png, .svg or .pdf, received {path}")
    return kind


@styled
def forest(
    results: "Results", labels: Sequence[str] | None = None, references: Sequence[float | None] = (), name: str = ""
) -> Figure:
    """A forest plot: the interval of each result, with the margin as a band.

    Args:
        results: at most `MAX_ROWS` of them.
        labels: of the rows; by default "a → b", shortened to fit.
        references: a difference to mark in each row, None for a row without one.
        name: of the references, in the legend.

    Raises:
        UserError: there are no results, or too many.
    """
    if not len(results):
        raise UserError("a figure shows at least one result, received none")
    if len(results) > MAX_ROWS:
        raise UserError(f"a figure has room for {MAX_ROWS} pairs, received {len(results):,}: choose some (--pairs)")
    settings = results.settings
    figure, axes = panels(0.33 * len(results) + 0.95)
    ax, lettering = axes[0, 0], _Lettering(figure, [results.metric, *(f"{one.a}{one.b}" for one in results)])
    if settings.margin:
        _draw_margin(ax, settings.margin, results.unit)
    ax.axvline(0, color=FAINT, linewidth=1)
    _set_scale(ax, results, [value for value in references if value is not None])
    rows = range(len(results))[::-1]
    for y, result, form in zip(rows, results, number_forms(results), strict=True):
        color = COLORS[result.verdict]
        if math.isfinite(result.low):
            ax.hlines(y, result.low, result.high, color=color, linewidth=2.5)
        else:
            ax.axhline(y, color=color, linewidth=1, linestyle=":")
        ax.plot(result.difference, y, "o", color=color, markersize=5.5, markeredgecolor="white")
        verdict = f"{number(result.difference, form)} {result.verdict}"
        label = labels[len(results) - 1 - y] if labels else lettering.pair(result.a, result.b, verdict)
        for x, side, words in ((0, "left", label), (1, "right", verdict)):
            place = {"transform": ax.get_yaxis_transform(), "ha": side, "va": "bottom"}
            ax.text(x, y + 0.22, words, **place, **lettering.style)
    marked = [(value, y) for value, y in zip(references, rows, strict=False) if value is not None]
    if marked:
        ax.plot(*zip(*marked, strict=True), "D", color=ORANGE, markersize=4, label=name, clip_on=False)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.5, len(results) - 0.1)
    ax.set_xlabel(_axis_label(results, ax, lettering), **lettering.style)
    if settings.margin or marked:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _draw_margin(ax: Axes, margin: float, unit: str) -> None:
    label = f"negligible: ±{plain(margin)}{f' {unit}' if unit else ''}"
    ax.axvspan(-margin, margin, color=GREEN, alpha=0.15, linewidth=0, label=label)


def _axis_label(results: "Results", ax: Axes, lettering: "_Lettering") -> str:
    unit = f", {results.unit}" if results.unit else ""
    scale = " (symmetric log scale)" if ax.get_xscale() == "symlog" else ""
    confidence = f"{plain(100 * results.settings.confidence)} % confidence, all intervals simultaneously"
    metric = lettering.cut(results.metric, lettering.room - lettering.width(f", b − a{unit}{scale}"))
    return f"{metric}, b − a{unit}{scale}\n{confidence}"


def _set_scale(ax: Axes, results: "Results", references: Sequence[float]) -> None:
    """A linear axis; logarithmic outside the margin where differences are far larger than it."""
    margin = results.settings.margin
    ends = np.array([*references, *(end for one in results for end in (one.low, one.high, one.difference))])
    finite = ends[np.isfinite(ends)]
    reach = np.abs(finite).max()
    if margin and reach > 30 * margin:
        ax.set_xscale("symlog", linthresh=2 * margin, linscale=0.6)
        exponents = range(math.floor(math.log10(2 * margin)), math.ceil(math.log10(2 * reach)))
        powers = [10.0**exponent for exponent in exponents if 2 * margin <= 10.0**exponent < 2 * reach]
        ticks = [*(-value for value in powers[::-1]), 0.0, *powers]
        ax.set_xticks(ticks, [number(tick, "{:+g}") if tick else "0" for tick in ticks])
        ax.xaxis.set_minor_locator(ax.xaxis.get_major_locator())
    low, high = min(finite.min(), -1.2 * margin), max(finite.max(), 1.2 * margin)
    if low < high:
        ax.set_xlim(low * (1.1 if low < 0 else 0.9), high * (1.1 if high > 0 else 0.9))
    ax.grid(axis="x")


class _Lettering:
    """Text in a figure: in a font that has its characters, and no wider than there is room for.

    Attributes:
        room: the width of a line in points.
        style: arguments of matplotlib for the text.
    """

    def __init__(self, figure: Figure, texts: Sequence[str]) -> None:
        self.room = 72 * figure.get_figwidth() - 20
        families = _families({*"".join(texts)})
        self.style = {"fontsize": 8, "family": families, "parse_math": False}  # $ is a character of names
        self._font = FontProperties(family=families, size=8)
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._points = 72 / figure.dpi

    def width(self, text: str) -> float:
        """The width of a text in points."""
        return self._points * self._renderer.get_text_width_height_descent(text, self._font, ismath=False)[0]

    def cut(self, text: str, room: float) -> str:
        """The text, its middle left out as far as there is no room."""

        def shorter(kept: int) -> str:
            return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

        if self.width(text) <= room:
            return text
        too_long = bisect.bisect_right(range(len(text)), room, key=lambda kept: self.width(shorter(kept)))
        return shorter(max(too_long - 1, 2))

    def pair(self, a: str, b: str, beside: str) -> str:
        """Both names; one that needs less than half of the room leaves the rest to the other."""
        room = self.room - self.width(f"{beside} → ") - 10
        a = self.cut(a, max(room / 2, room - self.width(b)))
        mark = "\N{LEFT-TO-RIGHT MARK}"  # else Arabic names change places
        return f"{mark}{a}{mark} → {mark}{self.cut(b, room - self.width(a))}"


def _families(characters: set[str]) -> list[str]:
    """The font of the style, and an installed one that has the characters that it lacks, if there is one."""
    first = STYLE["font.family"]
    missing = {*map(ord, characters)} - get_font(findfont(first)).get_charmap().keys()
    # matplotlib's Last Resort has a box for every character.
    fonts = (font for font in fontManager.ttflist if missing and not font.name.startswith("Last Resort"))
    return [first, *[font.name for font in fonts if missing <= get_font(font.fname).get_charmap().keys()][:1]]
