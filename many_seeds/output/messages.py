"""Lists, counts and durations in messages."""

from collections.abc import Sequence
from typing import Any

MAX_LISTED = 10


def listed(names: Sequence[Any]) -> str:
    """The first names with commas between, and the number of the others; "none" for no names."""
    shown = ", ".join(str(name) for name in names[:MAX_LISTED])
    return (shown or "none") + (f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else "")


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 row", "2 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
