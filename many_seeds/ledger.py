"""The ledger: a table of every comparison that was ever asked, with the level that it got then.

Rows are added and never removed, so a comparison that is deleted from a study keeps its share of the error. Functions
take and return rows; they read and write no files.
"""

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, listed
from many_seeds.statistics.levels import batch_level

Kind = Literal["comparison", "race"]
TOLERANCE = 1e-9  # relative, for the rounding of sums of levels


@dataclass(frozen=True)
class Row:
    """A comparison or a race that was asked.

    Attributes:
        data: the name of the data set. Batches are numbered, and levels add up to α, for each data set.
        batch: the number of the batch in which it was first asked.
        kind: "comparison" of two variants, or "race" between several.
        a: the first variant; of a race, all members with spaces between.
        b: the second variant; empty for a race.
        score: the name of the score.
        margin: the equivalence margins that were used, in the order of their first use, with spaces between.
        level: the probability that its interval misses, or that the winner of the race is wrong.
        from_seed: the first seed that counts: earlier ones had scores that may have suggested the comparison.
        identity: a digest of what the comparison is. Names play no part in it.
        confidence: the confidence with which all intervals of the data set hold simultaneously.
        design: "open" or "fixed".
        withdrawn: "yes" if it is not asked any more, otherwise empty.
    """

    data: str
    batch: int
    kind: Kind
    a: str
    b: str
    score: str
    margin: str
    level: float
    from_seed: int
    identity: str
    confidence: float
    design: str
    withdrawn: str = ""

    @property
    def alpha(self) -> float:
        """The probability that any interval of the data set misses."""
        return round(1 - self.confidence, 12)

    @property
    def margins(self) -> list[str]:
        return self.margin.split()

    @property
    def name(self) -> str:
        """The variants, and the score of a race, as text for messages."""
        return f"{self.a} → {self.b}" if self.b else f"race of {'/'.join(self.a.split())} by {self.score}"


@dataclass(frozen=True)
class Asked:
    """A comparison or a race that a study asks now.

    Attributes:
        kind: as in `Row`.
        a: as in `Row`.
        b: as in `Row`.
        score: as in `Row`.
        margin: the equivalence margin.
        identity: as in `Row`.
        variants: the identities of the variants that are compared.
    """

    kind: Kind
    a: str
    b: str
    score: str
    margin: float
    identity: str
    variants: tuple[str, ...]


COLUMNS = [field.name for field in fields(Row)]


def ask(
    rows: Iterable[Row], asked: Iterable[Asked], seen: Mapping[str, int], *, data: str, alpha: float, design: str
) -> list[Row]:
    """Enter the comparisons that a study asks now.

    Comparisons that have no row form the next batch together. Those that have one keep its batch, level and from_seed.
    Rows of the data set that are not asked are withdrawn; rows of other data sets stay as they are.

    Args:
        rows: the ledger.
        asked: all comparisons of the study. Those with the same identity get one row.
        seen: identity of a variant → the number of its seeds whose scores someone could have seen.
        data: the name of the data set.
        alpha: the probability that any interval of the data set misses.
        design: "open" or "fixed".

    Returns:
        The ledger, by data set and batch.
    """
    rows, wanted = list(rows), defaultdict[str, list[Asked]](list)
    for one in asked:
        wanted[one.identity].append(one)
    here = {row.identity: row for row in rows if row.data == data}
    new = [identity for identity in wanted if identity not in here]
    batch = 1 + max((row.batch for row in here.values()), default=0)

    def entered(one: Asked) -> Row:
        level = batch_level(batch, len(new), alpha)
        return Row(
            data=data,
            batch=batch,
            kind=one.kind,
            a=one.a,
            b=one.b,
            score=one.score,
            margin="",
            level=level,
            from_seed=first_new_seed(one.variants, seen),
            identity=one.identity,
            confidence=round(1 - alpha, 12),
            design=design,
        )

    kept = [_updated(row, wanted.get(row.identity, [])) if row.data == data else row for row in rows]
    return _in_order([*kept, *(_updated(entered(wanted[identity][0]), wanted[identity]) for identity in new)])


def pair_identity(a: str, b: str, score: str) -> str:
    """A digest of a comparison, the same for (a, b) and (b, a).

    Args:
        a: the identity of a variant.
        b: the identity of another variant.
        score: the name of the score.
    """
    return identity(score, *sorted([a, b]))


def race_identity(variants: Iterable[str], score: str) -> str:
    """A digest of a race, the same for any order of its variants.

    Args:
        variants: the identities of the variants.
        score: the name of the score.
    """
    return identity("race", score, *sorted(variants))


def identity(*parts: str) -> str:
    """A digest of texts, SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)).hexdigest()


def first_new_seed(variants: Iterable[str], seen: Mapping[str, int]) -> int:
    """The first seed of which no variant has a score that was seen; 0 if at most one variant has such scores at all.

    Scores of a single variant say nothing of a difference.
    """
    counts = [seen.get(variant, 0) for variant in variants]
    return max(counts) if sum(map(bool, counts)) > 1 else 0


def _updated(row: Row, asked: Sequence[Asked]) -> Row:
    """A row with today's names and margins; withdrawn if it is not asked."""
    if not asked:
        return replace(row, withdrawn="yes")
    margins = dict.fromkeys([*row.margins, *(f"{one.margin:.12g}" for one in asked)])
    return replace(row, a=asked[0].a, b=asked[0].b, margin=" ".join(margins), withdrawn="")


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.data, row.batch))


def counted_kinds(rows: Iterable[Row]) -> str:
    """How many comparisons and races there are: "2 comparisons and 1 race"."""
    numbers = Counter(row.kind for row in rows)
    return " and ".join(counted(numbers[kind], kind) for kind in get_args(Kind) if numbers[kind])


def check(rows: Sequence[Row], *, data: str, alpha: float, design: str, source: str, new_ledger: str) -> None:
    """Check that a ledger can take comparisons of a study.

    Args:
        rows: the ledger.
        data: the name of the study's data set.
        alpha: the probability that any interval of the study misses.
        design: the design of the study.
        source: the name of the ledger's file, for errors.
        new_ledger: the command that starts a new ledger, for errors.

    Raises:
        UserError: the levels of a batch add up to more than its share of α, or the rows of the data set have another
            confidence or design.
    """
    _check_shares(rows, source)
    confidence = round(1 - alpha, 12)
    for row in rows:
        if row.data == data and (row.confidence, row.design) != (confidence, design):
            raise UserError(
                f"the comparisons in {source} were entered with confidence {row.confidence:g} and the design "
                f"{row.design}; the study has confidence {confidence:g} and the design {design}. Levels never change: "
                f"restore the study's settings, or start a new ledger with {new_ledger}, which keeps the present one"
            )


def _check_shares(rows: Iterable[Row], source: str) -> None:
    batches = defaultdict[tuple[str, int], list[Row]](list)
    for row in rows:
        batches[row.data, row.batch].append(row)
    for (data, batch), together in batches.items():
        share = max(batch_level(batch, 1, row.alpha) for row in together)
        total = sum(row.level for row in together)
        if total > share * (1 + TOLERANCE):
            raise UserError(
                f"{source}: the levels of batch {batch} of {data} should add up to {share:.6g} at most, its share of "
                f"the error of all comparisons; received {total:.6g}. With more, the intervals no longer hold "
                "simultaneously: restore the file with git, and never edit it by hand. After a merge without the merge "
                "drivers of this repository, configure them and merge again"
            )


def check_against(rows: Iterable[Row], recorded: Iterable[Row], source: str) -> None:
    """Check that a ledger still has every row that was recorded before.

    Args:
        rows: the ledger.
        recorded: the rows that were recorded, as in the last commit.
        source: the name of the ledger's file, for errors.

    Raises:
        UserError: a recorded row is missing or changed. Batches may change, as a merge changes them, if no level rises.
    """
    present = {(row.data, row.identity): row for row in rows}
    differing = []
    for old in recorded:
        row = present.get((old.data, old.identity))
        if difference := "is missing" if row is None else _forbidden_change(old, row):
            differing.append(f"{old.name} (batch {old.batch} of {old.data}) {difference}")
    if differing:
        raise UserError(
            f"{source} should have every comparison of the last commit, unchanged: {listed(differing)}. The guarantee "
            "takes every comparison whose scores were seen to keep its level: without them, the chance of a wrong "
            f"verdict is larger than the study says. `git checkout HEAD -- {source}` restores the file"
        )


def _forbidden_change(old: Row, row: Row) -> str:
    """How a row differs from the recorded one in a way that breaks the guarantee, as text; empty if it does not."""
    for name in ("kind", "score", "confidence", "design"):
        if getattr(row, name) != getattr(old, name):
            return f"has {name} {getattr(row, name)} in place of {getattr(old, name)}"
    if row.level > old.level * (1 + TOLERANCE):
        return f"has the level {row.level:g}, larger than {old.level:g}"
    if row.from_seed < old.from_seed:
        return f"counts seeds from {row.from_seed} on, in place of {old.from_seed}"
    if lost := [margin for margin in old.margins if margin not in row.margins]:
        return f"lacks the margin {lost[0]}"
    return ""


def parse(text: str, source: str) -> list[Row]:
    """Read a ledger.

    Args:
        text: the content of the file; empty for a ledger without rows.
        source: its name, for errors.

    Raises:
        UserError: the text is not a ledger.
    """
    rows: dict[tuple[str, str], Row] = {}
    lines = csv.reader(io.StringIO(text))
    header = next(lines, COLUMNS)
    if header != COLUMNS:
        raise _damaged(source, 1, f"the columns {','.join(COLUMNS)}", ",".join(header))
    for values in lines:
        row = _parse_row(values, source, lines.line_num)
        if (row.data, row.identity) in rows:
            raise _damaged(source, lines.line_num, "one row for each comparison", f"a second row of {row.name}")
        rows[row.data, row.identity] = row
    return list(rows.values())


def _parse_row(values: Sequence[str], source: str, line: int) -> Row:
    if len(values) != len(COLUMNS):
        raise _damaged(source, line, f"{len(COLUMNS)} values", ",".join(values))
    texts = dict(zip(COLUMNS, values, strict=True))

    def number(column: str, kind: Callable[[str], Any], expected: str, valid: Callable[[Any], bool]) -> Any:
        try:
            value = kind(texts[column])
        except ValueError:
            value = None
        if value is None or not valid(value):
            raise _damaged(source, line, f"{expected} as {column}", texts[column])
        return value

    for column, allowed in (("kind", get_args(Kind)), ("withdrawn", ("", "yes")), ("design", ("open", "fixed"))):
        if texts[column] not in allowed:
            raise _damaged(source, line, f"{' or '.join(map(repr, allowed))} as {column}", texts[column])
    if empty := [column for column in ("data", "a", "score", "margin", "identity") if not texts[column]]:
        raise _damaged(source, line, f"a value as {empty[0]}", "none")
    for margin in texts["margin"].split():
        if not re.fullmatch(r"[0-9.e+-]+", margin):
            raise _damaged(source, line, "numbers as margin", texts["margin"])
    numbers = {
        "batch": number("batch", int, "a number of 1 or more", lambda value: value >= 1),
        "from_seed": number("from_seed", int, "a number of 0 or more", lambda value: value >= 0),
        "level": number("level", float, "a number between 0 and 1", lambda value: 0 < value < 1),
        "confidence": number("confidence", float, "a number between 0 and 1", lambda value: 0 < value < 1),
    }
    return Row(**(texts | numbers))


def _damaged(source: str, line: int, expected: str, received: str) -> UserError:
    return UserError(f"{source}, line {line}: expected {expected}, received {received!r}: restore the file with git")


def to_csv(rows: Iterable[Row]) -> str:
    """A ledger as CSV. `parse` reads the same rows from it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return text.getvalue()
