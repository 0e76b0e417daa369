"""What seeds are added for, at one look: comparisons until they have a verdict, and races until they end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from many_seeds.growth import Question
from many_seeds.races import RaceResult
from many_seeds.results import Result, Results
from stages.study.races import RaceState


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
        return {name for one in self for name in (one.variants if isinstance(one, RaceResult) else (one.a, one.b))}
