"""The figure of the answers: every interval below its pair."""

import bisect
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages import files, layout
from stages.errors import StudyError
from stages.verdict.answers import Answer, Settings
from stages.verdict.wording import number_forms, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DRAWN = 200


def write(path: Path, metric: str, found: Sequence[Answer], settings: Settings) -> None:
    """Every interval below its pair, with the margin as a band, as PNG, SVG or PDF, by the end of the path.

    Raises:
        StudyError: another format, more intervals than fit, or the file can't be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise StudyError(f"--figure should end in .png, .svg or .pdf, received {path}")
    if len(found) > MOST_DRAWN:
        raise StudyError(f"--figure has room for {MOST_DRAWN} pairs, received {len(found):,}: choose with --pairs")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # where no font has it, its place is seen
        _figure(metric, found, settings).savefig(buffer, format=kind, dpi=160, facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def _figure(metric: str, found: Sequence[Answer], settings: Settings) -> "Figure":
    from stages.aggregate import drawing  # here: matplotlib takes as long to start as all the rest

    colors = {"better": drawing.BLUE, "worse": drawing.ORANGE, "equivalent": drawing.GREEN}

    @drawing.styled
    def draw() -> "Figure":
        figure, axes = drawing.panels(0.33 * len(found) + 0.8)
        ax, write = axes[0, 0], _Writing(figure, [metric, *(name for answer in found for name in (answer.a, answer.b))])
        if settings.margin:
            ax.axvspan(-settings.margin, settings.margin, color=drawing.GREEN, alpha=0.15, linewidth=0)
        ax.axvline(0, color=drawing.FAINT, linewidth=1)
        for y, answer, form in zip(range(len(found))[::-1], found, number_forms(found), strict=True):
            color = colors.get(answer.verdict, drawing.GREY)
            if math.isfinite(answer.low):
                ax.hlines(y, answer.low, answer.high, color=color, linewidth=2.5)
            else:
                ax.axhline(y, color=color, linewidth=1, linestyle=":")
            ax.plot(answer.difference, y, "o", color=color, markersize=5.5, markeredgecolor="white")
            said = f"{layout.number(answer.difference, form)} {answer.verdict}"
            pair = write.pair(answer.a, answer.b, said)
            for x, side, words in ((0, "left", pair), (1, "right", said)):
                place = {"transform": ax.get_yaxis_transform(), "ha": side, "va": "bottom"}
                ax.text(x, y + 0.22, words, **place, **write.style)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_ylim(-0.5, len(found) - 0.1)
        ax.grid(axis="x")
        below = f"second − first, with {plain(100 * settings.confidence)} % confidence together"
        ax.set_xlabel(f"{write.cut(metric, write.room)}\n{below}", **write.style)
        return figure

    return draw()


class _Writing:
    """Words in a figure: as they are, in a font that has their characters, and no wider than there is room for.

    room: points, that a line may be wide.
    style: arguments of matplotlib for what is written.
    """

    def __init__(self, figure: "Figure", texts: Sequence[str]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.font_manager import FontProperties

        self.room = 72 * figure.get_figwidth() - 20
        families = _families({*"".join(texts)})
        self.style = {"fontsize": 8, "family": families, "parse_math": False}  # $ is a character of names
        self._font = FontProperties(family=families, size=8)
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._points = 72 / figure.dpi

    def width(self, text: str) -> float:
        """In points."""
        return self._points * self._renderer.get_text_width_height_descent(text, self._font, ismath=False)[0]

    def cut(self, text: str, room: float) -> str:
        """The text with its middle left out, as far as there is no room."""

        def shorter(kept: int) -> str:
            return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

        if self.width(text) <= room:
            return text
        too_long = bisect.bisect_right(range(len(text)), room, key=lambda kept: self.width(shorter(kept)))
        return shorter(max(too_long - 1, 2))

    def pair(self, a: str, b: str, beside: str) -> str:
        """Both names; who needs less than half of the room beside leaves the rest to the other."""
        room = self.room - self.width(f"{beside} → ") - 10
        a = self.cut(a, max(room / 2, room - self.width(b)))
        mark = "\N{LEFT-TO-RIGHT MARK}"  # else Arabic names change places
        return f"{mark}{a}{mark} → {mark}{self.cut(b, room - self.width(a))}"


def _families(characters: set[str]) -> list[str]:
    """The fonts to write with: the study's, and one of this machine that has what is missing there, if there is one."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    from stages.aggregate.drawing import STYLE

    first = STYLE["font.family"]
    missing = {*map(ord, characters)} - get_font(findfont(first)).get_charmap().keys()
    # matplotlib's Last Resort has a box for every character there is.
    fonts = (font for font in fontManager.ttflist if missing and not font.name.startswith("Last Resort"))
    return [first, *[font.name for font in fonts if missing <= get_font(font.fname).get_charmap().keys()][:1]]
