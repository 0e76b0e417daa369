"""The style of figures, and writing them to files."""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from many_seeds import files
from many_seeds.errors import UserError

Arguments = ParamSpec("Arguments")

WIDTH = 4.0  # inches: fits the width of a phone
FONT_SIZE = 9  # points: 11 pixels in a figure that is as wide as a phone
FORMATS = ("png", "svg", "pdf")
INK, FAINT = "#22272e", "#c3c9d0"
# The colour-blind-safe palette of Okabe and Ito.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b8794"
COLORS = {"better": BLUE, "worse": ORANGE, "equivalent": GREEN, "undecided": GREY, "unchanged": GREY}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "text.color": INK,
    "text.parse_math": False,  # $ is a character of names
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT_SIZE,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE,
    "svg.fonttype": "none",
    "svg.hashsalt": "study",
    "figure.dpi": 100,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorate a function so that it draws in `STYLE`, independent of the caller's matplotlib settings."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE), missing_glyphs_ignored():
            figure = draw(*args, **kwargs)
            # The layout is computed once, for all files written of the figure.
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine(None)  # with "none", saving would draw the figure twice
            return figure

    return drawn


def font_families(characters: set[str]) -> list[str]:
    """The font of the style, and an installed font that has the characters it lacks, if there is one."""
    default = STYLE["font.family"]
    missing = {*map(ord, characters)} - _characters(default)
    return [default, *_fonts_with(missing)[:1]] if missing else [default]


def _fonts_with(characters: set[int]) -> list[str]:
    """Installed fonts with these characters; not Last Resort, which draws boxes."""
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")]
    return [font.name for font in fonts if characters <= get_font(font.fname).get_charmap().keys()]


def _characters(family: str) -> set[int]:
    return {*get_font(findfont(family)).get_charmap()}


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for a figure, and the fonts to draw them in.

    Returns:
        The names, each one of which the installed fonts lack a character replaced by its number, from 0; and the fonts.
    """
    families = font_families({*"".join(names)})
    known = {character for family in families for character in _characters(family)}
    return [name if known.issuperset(map(ord, name)) else str(i) for i, name in enumerate(names)], families


@contextlib.contextmanager
def missing_glyphs_ignored() -> Iterator[None]:
    """Suppress the warning for characters that no installed font has; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def panels(height: float, columns: int = 1, rows: int = 1, width: float = WIDTH) -> tuple[Figure, np.ndarray]:
    """A figure of a width and a height in inches, and its axes [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def margin_band(ax: Axes, margin: float, *, vertical: bool = False, label: str | None = None) -> None:
    """Mark the values within ±margin of an axis, y or (vertical) x, by a band with visible edges."""
    draw = ax.axvspan if vertical else ax.axhspan
    draw(-margin, margin, facecolor=mpl.colors.to_rgba(GREEN, 0.15), edgecolor=GREEN, linewidth=0.8, label=label)


def band(ax: Axes, x: Any, low: Any, high: Any, color: str, *, label: str | None = None) -> None:
    """Fill the area between two curves. Its edges are visible, as the pale area alone is not on every ground."""
    face = mpl.colors.to_rgba(color, 0.25)
    ax.fill_between(x, low, high, facecolor=face, edgecolor=color, linewidth=0.6, label=label)


def write(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix of the path.

    Raises:
        UserError: the suffix is another one, or the file can't be written.
    """
    kind = check_format(path)
    buffer = io.BytesIO()
    with missing_glyphs_ignored():
        figure.savefig(buffer, format=kind, dpi=160, facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def check_format(path: Path) -> str:
    """The format of a figure by its suffix.

    Raises:
        UserError: the suffix is not one of `FORMATS`.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"a figure should end in .png, .svg or .pdf, received {path}")
    return kind
