"""Read the ledger of comparisons and the earlier ledgers beside it."""

import re
from collections.abc import Iterable
from pathlib import Path

from many_seeds.errors import UserError
from many_seeds.ledger import Row, parse
from many_seeds.messages import listed
from many_seeds.results import Pair
from stages.study.comparisons import named_pairs
from stages.study.identities import SCORE, comparison_identity
from stages.study.params import Params
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


def find_rows(study: Params, rows: Iterable[Row], score: str = SCORE) -> dict[Pair, Row]:
    """The row of each comparison of a study.

    Args:
        study: the parameters of the study.
        rows: the ledger.
        score: the name of the score.

    Returns:
        Pair as in `named_pairs` → row. Variants with equal recipes share rows.

    Raises:
        UserError: a comparison has no row.
    """
    known = {row.identity: row for row in rows if row.data == study.data.name and not row.withdrawn}
    found = {(a, b): known.get(comparison_identity(a, b, study, score)) for a, b in named_pairs(study)}
    if missing := [f"{a} → {b}" for (a, b), row in found.items() if row is None]:
        raise UserError(
            f"{COMPARISONS} should have a row for each comparison of params.yaml; missing: {listed(missing)}. "
            "`dvc repro ledger` enters them"
        )
    return {pair: row for pair, row in found.items() if row is not None}
