"""What all figures share: their look, and how they are written."""

import functools
import io
import re
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

WIDTH = 4.0  # inches: a phone shows a figure as wide as this in its own size
INK, FAINT = "#22272e", "#c3c9d0"
# Okabe and Ito's colours, which people with colour blindness tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b8794"

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
    """Draw in the study's style, whatever the caller's settings."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            # Laid out once, for both files that are made of it.
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine("none")
            return figure

    return drawn


def panels(height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of this height in inches, and its axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
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
    drawn = buffer.getvalue().decode()
    head = re.search(r"<svg[^>]*?>", drawn, re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', drawn)
    assert head is not None
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", drawn[head.end() :], flags=re.DOTALL)
    # The page's fonts, in place of matplotlib's list of all that it might have used; and the page's ink and lines.
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", body)
    body = body.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    body = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", body)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{title}">{body}'
