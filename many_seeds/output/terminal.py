"""Text for a terminal: long lines are wrapped, and verdicts are in colour. Files and pipes get it as it is"""

import os
import re
from typing import TextIO

from many_seeds.output.text import filled, line_width

COLOURS = {"better": 32, "worse": 31, "equivalent": 36}  # green, red and cyan of the terminal's own palette
# A verdict in a cell of a table, before or after a colon; within a sentence it stays as it is.
VERDICT = re.compile(rf"(?m)(?:^|(?<=  )|(?<=: ))({'|'.join(COLOURS)})(?=$|  |[:,])")


def for_stream(text: str, stream: TextIO | None) -> str:
    """A text for a stream, which is changed if the stream is a terminal.

    Args:
        text: lines.
        stream: such as sys.stdout; None, as Python has it, if the shell closed it.
    """
    if stream is None or not stream.isatty():
        return text
    width = line_width()
    lines = [filled(line, "  ") if len(line) > width else line for line in text.split("\n")]
    return _coloured("\n".join(lines))


def _coloured(text: str) -> str:
    """The text with verdicts in colour, unless NO_COLOR (https://no-color.org) is set or the terminal has none."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return VERDICT.sub(lambda found: f"\x1b[{COLOURS[found[1]]}m{found[1]}\x1b[0m", text)
