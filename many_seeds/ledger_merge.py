"""Merge the ledgers of two branches, so that the levels still add up to α at most."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from many_seeds.errors import UserError
from many_seeds.ledger import Row, counted_kinds
from many_seeds.output.messages import listed
from many_seeds.statistics.levels import batch_level

Index = dict[str, Row]  # identity → row, of one data set


@dataclass(frozen=True)
class _Set:
    """Comparisons that one branch, or both, entered together.

    Attributes:
        batch: the number of their batch in the merged ledger.
        identities: their identities, in the order of their rows.
        came_from: the number of their batch before the merge.
    """

    batch: int
    identities: tuple[str, ...]
    came_from: int


def merge(base: Iterable[Row], ours: Iterable[Row], theirs: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Merge the ledgers of two branches.

    Where both have entered comparisons, they have used the same number for two batches. The set with the smaller digest
    keeps it, and the other moves to the next free number, with a smaller level. A comparison of both branches stays in
    the earlier of its batches. The result does not depend on which branch is ours, and no level rises.

    Args:
        base: the ledger of the common ancestor.
        ours: the ledger of our branch.
        theirs: the ledger of the other branch.

    Returns:
        The merged ledger, and a sentence for each set of comparisons that has moved.

    Raises:
        UserError: one of the branches has started a new ledger.
    """
    sides = [list(rows) for rows in (base, ours, theirs)]
    merged: list[Row] = []
    messages: list[str] = []
    for data in sorted({row.data for rows in sides[1:] for row in rows}):
        indices = [{row.identity: row for row in rows if row.data == data} for rows in sides]
        rows, moved = _merge_data(*_with_common_base(data, *indices))
        merged += rows
        messages += moved
    return merged, messages


def _with_common_base(data: str, base: Index, ours: Index, theirs: Index) -> tuple[Index, Index, Index]:
    """The three ledgers, with an empty base if both branches have started a new ledger.

    Raises:
        UserError: one branch has started a new ledger, and the other has not.
    """
    if not ours or not theirs:
        other = ours or theirs
        return {}, other, other
    terms = [{(row.confidence, row.design) for row in side.values()} for side in (ours, theirs)]
    lost = [base.keys() - side.keys() for side in (ours, theirs)]
    if len(terms[0] | terms[1]) > 1 or bool(lost[0]) != bool(lost[1]):
        raise UserError(
            f"the ledgers of two branches can't be merged: only one of them has all comparisons of {data} that were "
            "asked before, or they have different confidence or designs, so one has started a new ledger. Keep the "
            "file of that branch, and enter the comparisons of the other branch again"
        )
    return ({} if lost[0] else base), ours, theirs


def _merge_data(base: Index, ours: Index, theirs: Index) -> tuple[list[Row], list[str]]:
    def kept(identity: str) -> bool:
        batches = {side[identity].batch for side in (base, ours, theirs) if identity in side}
        return identity in base and len(batches) == 1

    fixed = [identity for identity in base if kept(identity)]
    sets = _placed([_sets(base, side) for side in (ours, theirs)], max(_batches(ours) | _batches(theirs)))
    placed = {identity: base[identity].batch for identity in fixed}
    levels, messages = dict[str, float](), list[str]()
    for one in sorted(sets, key=lambda one: one.batch):
        left = [identity for identity in one.identities if identity not in placed]
        placed |= dict.fromkeys(left, one.batch)
        if left and one.batch != one.came_from:
            level = batch_level(one.batch, len(left), next(iter(ours.values())).alpha)
            levels |= dict.fromkeys(left, level)
            names = [_names(identity, base, ours, theirs) for identity in left]
            kinds = counted_kinds({**theirs, **ours}[identity] for identity in left)
            messages.append(_moved(kinds, names, one, level))
    rows = [
        _merged_row(identity, batch, levels.get(identity), base, ours, theirs) for identity, batch in placed.items()
    ]
    return sorted(rows, key=lambda row: row.batch), messages


def _batches(side: Index) -> set[int]:
    return {row.batch for row in side.values()}


def _sets(base: Index, side: Index) -> dict[int, tuple[str, ...]]:
    """Batch → the identities that are not in that batch of the base."""
    sets = defaultdict[int, list[str]](list)
    for identity, row in side.items():
        if identity not in base or base[identity].batch != row.batch:
            sets[row.batch].append(identity)
    return {batch: tuple(identities) for batch, identities in sets.items()}


def _placed(sides: Sequence[dict[int, tuple[str, ...]]], highest: int) -> Iterator[_Set]:
    """The sets of both branches with their batches: where two claim one number, the smaller digest keeps it."""
    losers = []
    for batch in sorted({batch for sets in sides for batch in sets}):
        claimed = sorted(sets[batch] for sets in sides if batch in sets)
        different = {frozenset(identities): identities for identities in claimed}
        winner, *others = sorted(different.values(), key=digest)
        yield _Set(batch, winner, batch)
        losers += [(batch, loser) for loser in others]
    for free, (batch, loser) in enumerate(losers, highest + 1):
        yield _Set(free, loser, batch)


def digest(identities: Iterable[str]) -> str:
    """The SHA-256 digest of a set of identities."""
    return hashlib.sha256("\n".join(sorted(identities)).encode()).hexdigest()


def _names(identity: str, base: Index, ours: Index, theirs: Index) -> tuple[str, str]:
    """The names of the variants: those that a branch has changed, and the same whichever branch is ours."""
    found = {(side[identity].a, side[identity].b) for side in (ours, theirs) if identity in side}
    before = {(base[identity].a, base[identity].b)} if identity in base else set()
    return min(found - before or found)


def _merged_row(identity: str, batch: int, level: float | None, base: Index, ours: Index, theirs: Index) -> Row:
    rows = [side[identity] for side in (ours, theirs) if identity in side]
    a, b = _names(identity, base, ours, theirs)
    earlier = base[identity].margins if identity in base else []
    # Each branch has the order of use; of both there is none, so margins that are new have the order of their size.
    later = sorted({margin for row in rows for margin in row.margins} - set(earlier), key=float)
    only = rows[0].margin if len({row.margin for row in rows}) == 1 else " ".join([*earlier, *later])
    return replace(
        rows[0],
        a=a,
        b=b,
        batch=batch,
        margin=only,
        level=min([row.level for row in rows] + ([] if level is None else [level])),
        from_seed=max(row.from_seed for row in rows),
        withdrawn="yes" if all(row.withdrawn for row in rows) else "",
    )


def _moved(kinds: str, names: Sequence[tuple[str, str]], one: _Set, level: float) -> str:
    pairs = listed([" → ".join(filter(None, pair)) for pair in names])
    return (
        f"both branches entered comparisons as batch {one.came_from}: {kinds} ({pairs}) "
        f"moved to batch {one.batch}, at level {level:.2g} at most"
    )
