"""Read the ledger of comparisons and the earlier ledgers beside it."""

import re
from pathlib import Path

from many_seeds.errors import UserError
from many_seeds.ledger import Row, parse
from stages.study.paths import COMPARISONS


def read_ledger(path: Path = COMPARISONS) -> list[Row]:
    """The rows of a ledger; none without the file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return parse(path.read_bytes().decode(), str(path))
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise UserError(f"{path} should be UTF-8 text: restore it with git ({error})") from error


def earlier_path(number: int) -> Path:
    """The file of an earlier ledger, from number 1 on."""
    return COMPARISONS.with_name(f"{COMPARISONS.stem}_{number}{COMPARISONS.suffix}")


def earlier_number(path: Path) -> int | None:
    """The number of an earlier ledger; None for another file."""
    found = re.fullmatch(rf"{COMPARISONS.stem}_([1-9]\d*){COMPARISONS.suffix}", path.name)
    return int(found[1]) if found else None


def earlier_ledgers() -> list[Path]:
    """The files of the ledgers that were replaced by a new one, the oldest first."""
    numbers = [earlier_number(path) for path in COMPARISONS.parent.glob(f"{COMPARISONS.stem}_*")]
    return [earlier_path(number) for number in sorted(filter(None, numbers))]
