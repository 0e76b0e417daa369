"""Figures of the report as PNG files and as <svg> elements of its page."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from many_seeds.output.plots import FAINT, INK, STYLE, missing_glyphs_ignored


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with missing_glyphs_ignored():
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, title: str, name: str) -> str:
    """The figure as an <svg> element that scales and takes the text colour of the page.

    Args:
        figure: the figure.
        title: its accessible name.
        name: a prefix for its ids, which must be unique in the page.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), missing_glyphs_ignored():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue().decode()
    head = re.search(r"<svg[^>]*?>", drawn, re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', drawn)
    assert head is not None
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", drawn[head.end() :], flags=re.DOTALL)
    # The fonts and colours of the page in place of matplotlib's.
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", body)
    body = body.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    body = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", body)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{title}">{body}'
