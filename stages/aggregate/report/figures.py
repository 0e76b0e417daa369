"""Figures of the report as PNG files and as <svg> elements of its page."""

import html
import io
import math
import re
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from many_seeds.output.plots import FAINT, INK, STYLE, missing_glyphs_ignored

MOST_TICKS = 10
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis from low to high, both above 0.

    Returns:
        1, 2 and 5 times powers of ten; only the powers if these are too many, and other round numbers if they are fewer
        than two.
    """
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    ticks = [factor * power for power in powers for factor in (1, 2, 5) if low <= factor * power <= high]
    if len(ticks) > MOST_TICKS:
        return [power for power in powers if low <= power <= high]
    if len(ticks) < 2:
        return [
            float(tick)
            for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
            if low <= tick <= high
        ]
    return ticks


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with missing_glyphs_ignored():
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, title: str, name: str, tooltips: Mapping[str, str]) -> str:
    """The figure as an <svg> element that scales and takes the text colour of the page.

    Args:
        figure: the figure.
        title: its accessible name.
        name: a prefix for its ids, which must be unique in the page.
        tooltips: gid of an artist → the text beside the pointer.
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
    body = body.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace("#ffffff", "var(--paper)")
    for gid, text in tooltips.items():
        body = body.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{html.escape(text)}</title>', 1)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", body)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(title)}">{body}'
