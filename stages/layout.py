"""Tables as plain text and as Markdown."""

import re
import textwrap
from collections.abc import Sequence

HEADER_WIDTH = 14
LINE_WIDTH = 110


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Lines of a table with long headers broken; the first `words` columns to the left, the others to the right."""
    broken = [textwrap.wrap(text, HEADER_WIDTH, break_long_words=False, break_on_hyphens=False) for text in header]
    height = max(map(len, broken))
    heads = [[""] * (height - len(lines)) + lines for lines in broken]
    lines = [*map(list, zip(*heads, strict=True)), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(height, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for GitHub and GitLab; what is in its cells is shown as it is."""
    lines = [[*map(escaped, header)], ["---"] * len(header), *([*map(escaped, row)] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line; the _ of hidden_units means nothing to it."""
    marked = re.sub(r"[\\`*\[\]<>|~]|\b_|_\b", r"\\\g<0>", text)
    return re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", marked).strip()


def filled(text: str, indent: str = "") -> str:
    """Text broken into lines that a terminal holds, those after the first behind `indent`."""
    return textwrap.fill(text, LINE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def number(value: float, form: str) -> str:
    """With a minus sign that is as wide as a plus sign."""
    return form.format(value).replace("-", "−")
