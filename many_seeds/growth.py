"""Which seeds to add next, for undecided comparisons and for races that have not ended: pure functions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from many_seeds.races import RaceResult
from many_seeds.results import Pair, Result
from many_seeds.statistics import intervals

FIRST_LOOK = 10  # seeds of a comparison or race that has none yet
MOST = 256  # the default of the maximum number of seeds

Question = Result | RaceResult


def is_open(one: Question) -> bool:
    """Whether a comparison has no verdict yet, or a race has not ended."""
    return not one.standing.ended if isinstance(one, RaceResult) else one.verdict == "undecided"


def name_of(one: Question) -> str:
    """The name of a race, or both variants of a comparison."""
    return one.name if isinstance(one, RaceResult) else pair_name((one.a, one.b))


def contenders(one: Question) -> tuple[str, ...]:
    """The variants that get more seeds: both of a comparison, those in a race."""
    return one.standing.in_race if isinstance(one, RaceResult) else (one.a, one.b)


def seeds_used(one: Question) -> int:
    """The number of common seeds that count."""
    return one.standing.n if isinstance(one, RaceResult) else one.n


def pair_name(pair: Pair) -> str:
    return f"{pair[0]} → {pair[1]}"


@dataclass(frozen=True)
class Step:
    """The next batch of seeds of one comparison or race.

    Attributes:
        name: of the race, or the variants of the comparison as text.
        variants: that get the seeds: both of the comparison, those in the race.
        n: the number of common seeds now.
        next_n: the number of common seeds after the batch.
        final_n: the number of seeds at which a verdict or the end of the race is projected, or the maximum number.
    """

    name: str
    variants: tuple[str, ...]
    n: int
    next_n: int
    final_n: int

    def next_runs(self, seeds: Mapping[str, int]) -> dict[str, int]:
        """Variant → the number of runs of the batch.

        Args:
            seeds: variant → the number of seeds that it has.
        """
        return missing_runs(dict.fromkeys(self.variants, self.next_n), seeds)

    def all_runs(self, seeds: Mapping[str, int]) -> dict[str, int]:
        """Variant → the number of runs until `final_n` seeds.

        Args:
            seeds: variant → the number of seeds that it has.
        """
        return missing_runs(dict.fromkeys(self.variants, self.final_n), seeds)


def next_steps(
    questions: Iterable[Question],
    seeds: Mapping[str, int],
    seconds: Mapping[str, float],
    costs: Callable[[], Mapping[str, float]],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each undecided pair and open race with fewer than the maximum number of seeds.

    A step adds a quarter more seeds, and at least as many as are trained at a time.

    Args:
        questions: the results of comparisons, by whatever scores, and the states of races.
        seeds: variant → the number of seeds that it has.
        seconds: variant → the mean duration of a run, where it is known.
        costs: returns an estimate for every variant, in any unit, which is used if a duration is unknown.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs that are trained at a time.

    Returns:
        The steps, those that take the least time first. Those without a projected end within the maximum number of
        seeds are last.
    """
    unfinished = [one for one in longest_open(questions).values() if _seeds(one) < most]
    steps = {_next_step(one, most, at_once): one for one in unfinished}
    known = seconds
    if any(total_seconds(step.all_runs(seeds), seconds) is None for step in steps):
        known = costs()  # for all variants alike

    def order(step: Step) -> tuple[bool, float]:
        return _projected(steps[step]) > most, total_seconds(step.all_runs(seeds), known) or 0.0

    return sorted(steps, key=order)


def first_affordable(
    steps: Sequence[Step],
    seeds: Mapping[str, int],
    seconds: Mapping[str, float],
    *,
    seconds_left: float,
    at_once: int,
) -> Step | None:
    """The first step that is expected to end in time, or None; any time is enough for a step of unknown duration.

    Args:
        steps: of `next_steps`.
        seeds: variant → the number of seeds that it has.
        seconds: variant → the mean duration of a run, where it is known.
        seconds_left: the time that is left.
        at_once: the number of runs that are trained at a time.
    """
    for step in steps:
        expected = total_seconds(step.next_runs(seeds), seconds) or 0.0
        if 0 < seconds_left >= expected / at_once:
            return step
    return None


def longest_open(questions: Iterable[Question]) -> dict[str, Question]:
    """Name → the undecided comparison, of several scores the one that needs the most seeds, or the open race."""
    found: dict[str, Question] = {}
    for one in filter(is_open, questions):
        name = name_of(one)
        if name not in found or _projected(found[name]) < _projected(one):
            found[name] = one
    return found


def _next_step(one: Question, most: int, at_once: int) -> Step:
    used = seeds_used(one)
    more = next(intervals.looks(used, at_once)) if used else max(FIRST_LOOK, at_once)
    next_n = min(most, one.from_seed + more)
    return Step(name_of(one), contenders(one), _seeds(one), next_n, max(next_n, min(most, _projected(one))))


def _seeds(one: Question) -> int:
    """The number of common seeds, with those that are left out."""
    return one.from_seed + seeds_used(one)


def _projected(one: Question) -> int:
    """The number of common seeds at which a verdict or the end of a race is projected."""
    return one.from_seed + (one.seeds_projected or intervals.MAX_PROJECTION)


def missing_runs(wanted: Mapping[str, int], seeds: Mapping[str, int]) -> dict[str, int]:
    """The number of runs that variants need to reach a number of seeds.

    Args:
        wanted: variant → the number of seeds to reach.
        seeds: variant → the number of seeds that it has.

    Returns:
        Variant → the number of missing runs; variants without missing runs are left out.
    """
    missing = {name: count - seeds[name] for name, count in wanted.items()}
    return {name: count for name, count in missing.items() if count > 0}


def total_seconds(runs: Mapping[str, int], seconds: Mapping[str, float]) -> float | None:
    """The duration of runs that are trained one after the other.

    Args:
        runs: variant → the number of runs.
        seconds: variant → the duration of a run.

    Returns:
        The duration; None if that of a variant is unknown.
    """
    if not runs.keys() <= seconds.keys():
        return None
    return sum(count * seconds[name] for name, count in runs.items())
