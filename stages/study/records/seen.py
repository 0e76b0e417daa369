"""metrics/seen.json: how many seeds of each variant had scores that someone could have seen.

Reports and looks of `make settle` write it before they show scores. Numbers only grow, and variants that are removed
stay. The file is no output of DVC. Names are for readers: a variant is known by its identity.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.study import files, git
from stages.study.params import Params
from stages.study.paths import SEEN
from stages.study.provenance.identities import variant_identity


class Seen(NamedTuple):
    """A variant of which scores were seen.

    Attributes:
        variant: its name.
        seeds: the number of seeds.
    """

    variant: str
    seeds: int


def read_seen() -> dict[str, int]:
    """Identity of a variant → the number of its seeds whose scores someone could have seen.

    Raises:
        UserError: the file is damaged.
    """
    return {identity: entry.seeds for identity, entry in _read().items()}


def check_seen() -> None:
    """Check that the file has the entries of the last commit; without git or a commit there is nothing to check.

    Raises:
        UserError: an entry is missing or has fewer seeds, so that scores that were seen would count as unseen; or the
            file is damaged.
    """
    now, recorded = _read(), parse(git.committed(SEEN) or b"", f"{SEEN} of the last commit")
    fewer = [old.variant for identity, old in recorded.items() if now.get(identity, Seen("", 0)).seeds < old.seeds]
    if fewer:
        raise UserError(
            f"{SEEN} should have all seeds of the last commit, whose scores were seen, but lacks seeds of "
            f"{listed(fewer)}: a new comparison would use scores that may be the reason for it. `git checkout HEAD -- "
            f"{SEEN}` restores the file"
        )


def record_seen(study: Params, seeds: Mapping[str, int]) -> None:
    """Record that scores are about to be shown.

    Args:
        study: the parameters of the study.
        seeds: variant → the number of its seeds.

    Raises:
        UserError: the file is damaged or can't be written, or the study has no such variant.
    """
    before = _read()
    shown = {variant_identity(study.recipe(name), study): Seen(name, count) for name, count in seeds.items()}
    grown = {identity: seen for identity, seen in shown.items() if seen.seeds > before.get(identity, Seen("", 0)).seeds}
    if grown:
        files.write_bytes(SEEN, to_json(union(before, grown)))


def union(one: Mapping[str, Seen], other: Mapping[str, Seen]) -> dict[str, Seen]:
    """The entries of both, each with the larger number of seeds."""

    def larger(identity: str) -> Seen:
        entries = [entries[identity] for entries in (one, other) if identity in entries]
        return max(entries, key=lambda entry: (entry.seeds, entry.variant))

    return {identity: larger(identity) for identity in {**one, **other}}


def _read() -> dict[str, Seen]:
    try:
        return parse(SEEN.read_bytes(), str(SEEN))
    except FileNotFoundError:
        return {}


def parse(content: bytes, source: str) -> dict[str, Seen]:
    """Read the content of the file; empty for no entries.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = json.loads(content or b"{}")
        entries = {identity: Seen(str(entry["variant"]), entry["seeds"]) for identity, entry in values.items()}
        if not all(type(entry.seeds) is int and entry.seeds >= 0 for entry in entries.values()):
            raise ValueError("seeds should be a number of 0 or more")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{source} should map the identity of each variant to its name and a number of seeds ({error}): restore it "
            "with git"
        ) from error
    return entries


def to_json(entries: Mapping[str, Seen]) -> bytes:
    """The content of the file, ordered by name."""
    ordered = sorted(entries.items(), key=lambda item: (item[1].variant, item[0]))
    return files.json_bytes({identity: entry._asdict() for identity, entry in ordered})
