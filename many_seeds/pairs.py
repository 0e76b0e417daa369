"""Which variants are compared: pairs (a, b) from names, from a baseline, or all."""

import difflib
import itertools
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.results import Pair

MAX_PAIRS = 10_000


def chosen_pairs(names: Sequence[str], pairs: Sequence[Any] | None, baseline: str | None) -> list[Pair]:
    """The pairs that are named, or those of `default_pairs`.

    Raises:
        UserError: there are fewer than two variants, both pairs and a baseline are named, or a variant is unknown.
    """
    check_two_variants(names)
    if pairs is None:
        return default_pairs(names, None if baseline is None else str(baseline))
    if baseline is not None:
        raise UserError(f"expected pairs or a baseline, received both: {pairs!r} and {baseline!r}")
    return check_pairs(pairs, names)


def check_pairs(pairs: Sequence[Any], names: Sequence[str]) -> list[Pair]:
    """Pairs of names of variants, which may be given as numbers.

    Args:
        pairs: sequences (a, b).
        names: the variants.

    Returns:
        The pairs, as text.

    Raises:
        UserError: there are no pairs, one is not a pair of two variants, or one is repeated.
    """
    if not pairs:
        raise UserError("expected at least one pair (a, b), received none")
    checked = [_check_pair(pair, names) for pair in pairs]
    _check_unique(checked, "pairs")
    return checked


def parse_pairs(texts: Sequence[str], names: Sequence[str], source: str = "--pairs") -> list[Pair]:
    """Pairs from texts "A:B" or "A:B,C:D"; names may have colons and commas.

    Args:
        texts: the pairs.
        names: the variants.
        source: the option or the key that has the pairs, for errors.

    Raises:
        UserError: a text is not a pair of two variants, or a pair is repeated.
    """
    known = set(names)
    parts = [part for text in texts for part in ([text] if _parse(text, known) else _split(text))]
    parsed = [_parse(part, known) or _refuse(part, names, source) for part in parts]
    _check_unique(parsed, source)
    return parsed


def default_pairs(names: Sequence[str], baseline: str | None) -> list[Pair]:
    """Every variant against the baseline; without a baseline every pair, in the order of the variants.

    Raises:
        UserError: the baseline is unknown, or there are more than `MAX_PAIRS` pairs.
    """
    if baseline is not None:
        if baseline not in names:
            raise UserError(f"the baseline should be a variant, received {baseline!r}. {_suggestion(baseline, names)}")
        return [(baseline, name) for name in names if name != baseline]
    count = math.comb(len(names), 2)
    if count > MAX_PAIRS:
        raise UserError(
            f"{len(names):,} variants make {count:,} pairs, too many for a verdict on any: name a baseline "
            "(--baseline; in Python, baseline=…) or the pairs of interest (--pairs; pairs=…)"
        )
    return list(itertools.combinations(names, 2))


def check_two_variants(names: Sequence[str], advice: str = "") -> None:
    """Check that there is something to compare.

    Args:
        names: the variants.
        advice: how to fix it, behind the message.

    Raises:
        UserError: there are fewer than two variants.
    """
    if len(names) < 2:
        raise UserError(f"expected at least two variants, found {'only ' if names else ''}{listed(names)}{advice}")


def _check_pair(pair: Any, names: Sequence[str]) -> Pair:
    texts = [str(name) for name in pair] if isinstance(pair, Sequence) and not isinstance(pair, str) else []
    if len(texts) != 2 or texts[0] == texts[1] or not set(texts) <= set(names):
        raise UserError(f"pairs should be (a, b) of two variants of {listed(names)}, received {pair!r}")
    return texts[0], texts[1]


def _check_unique(pairs: Sequence[Pair], source: str) -> None:
    seen = set[frozenset[str]]()
    for pair in pairs:
        if frozenset(pair) in seen:
            raise UserError(f"{source} has {pair[0]}:{pair[1]} twice, in either order: name it once")
        seen.add(frozenset(pair))


def _parse(text: str, known: AbstractSet[str]) -> Pair | None:
    """The two variants of "A:B", split at whichever colon makes both known; None if there is none."""
    pieces = text.split(":")
    for place in range(1, len(pieces)):
        a, b = ":".join(pieces[:place]).strip(), ":".join(pieces[place:]).strip()
        if {a, b} <= known and a != b:
            return a, b
    return None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def _refuse(text: str, names: Sequence[str], source: str) -> Pair:
    if text in {f"{name}:{name}" for name in names}:
        raise UserError(f"{source} should be A:B with two variants, received a variant and itself: {text!r}")
    comma = any("," in name for name in names)
    advice = f" Give a pair with a comma in a name in a separate {source}." if comma and source == "--pairs" else ""
    raise UserError(
        f"{source} should be A:B with two variants, received {text!r}.{advice} {_pair_suggestion(text, names)}"
    )


def _pair_suggestion(text: str, names: Sequence[str]) -> str:
    unknown = [name for name in map(str.strip, text.split(":")) if name not in names]
    return _suggestion(unknown[0], names) if ":" in text and unknown else _variants(names)


def _suggestion(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names)
    return f"Did you mean {' or '.join(close)}?" if close else _variants(names)


def _variants(names: Sequence[str]) -> str:
    return f"Variants: {listed(names)}"
