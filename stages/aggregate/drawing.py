"""Figures of the report as PNG files and as <svg> elements of its page."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from many_seeds.plots import FAINT, INK, STYLE


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
