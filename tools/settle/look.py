"""What seeds are added for, at one look: comparisons until they have a verdict, and races until they end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from many_seeds.results import Pair, Result, Results
from stages.study.races import RaceState

Question = Result | RaceState


@dataclass(frozen=True)
class Look:
    """The results from the present scores.

    Attributes:
        groups: the results of the comparisons, for each score and margin.
        races: the states of the races.
    """

    groups: Sequence[Results]
    races: Sequence[RaceState]

    @property
    def results(self) -> list[Result]:
        """The results of all scores and margins."""
        return [result for results in self.groups for result in results]

    def __iter__(self) -> Iterator[Question]:
        yield from self.results
        yield from self.races

    @property
    def remarks(self) -> list[str]:
        """What a reader needs to know, one sentence each, as on diverged runs."""
        found = [*(results.remarks for results in self.groups), *(state.remarks for state in self.races)]
        return list(dict.fromkeys(remark for remarks in found for remark in remarks))

    @property
    def variants(self) -> set[str]:
        """The names of all variants that are compared."""
        return {name for one in self for name in (one.race.variants if isinstance(one, RaceState) else (one.a, one.b))}


def is_open(one: Question) -> bool:
    """Whether a comparison has no verdict yet, or a race has not ended."""
    return not one.standing.ended if isinstance(one, RaceState) else one.verdict == "undecided"


def name_of(one: Question) -> str:
    """The name of a race, or both variants of a comparison."""
    return one.race.name if isinstance(one, RaceState) else pair_name((one.a, one.b))


def contenders(one: Question) -> tuple[str, ...]:
    """The variants that get more seeds: both of a comparison, those in a race."""
    return one.standing.in_race if isinstance(one, RaceState) else (one.a, one.b)


def seeds_used(one: Question) -> int:
    """The number of common seeds that count."""
    return one.standing.n if isinstance(one, RaceState) else one.n


def pair_name(pair: Pair) -> str:
    return f"{pair[0]} → {pair[1]}"
