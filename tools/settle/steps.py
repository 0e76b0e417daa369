"""The next batches of seeds, and how long they take: pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from many_seeds.errors import UserError
from many_seeds.results import Pair
from many_seeds.statistics import intervals
from stages.study.comparisons import named_pairs
from stages.study.params import PARAMS, Params
from stages.study.races import NamedRace, named_races
from tools.settle.look import Question, contenders, is_open, name_of, seeds_used

FIRST_LOOK = 10  # seeds of a comparison or race that has none yet


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

    def next_runs(self, study: Params) -> dict[str, int]:
        """Variant → the number of runs of the batch."""
        return missing_runs(dict.fromkeys(self.variants, self.next_n), study)

    def all_runs(self, study: Params) -> dict[str, int]:
        """Variant → the number of runs until `final_n` seeds."""
        return missing_runs(dict.fromkeys(self.variants, self.final_n), study)


def next_steps(
    questions: Iterable[Question],
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each undecided pair and open race with fewer than the maximum number of seeds.

    Args:
        questions: the results of comparisons, by whatever scores, and the states of races.
        study: the parameters of the study.
        seconds: variant → the mean duration of a run, where it is known.
        shape: of an image.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs that this machine trains at a time.

    Returns:
        The steps, those that take the least time first. Those without a projected end within the maximum number of
        seeds are last.
    """
    unfinished = [one for one in longest_open(questions).values() if _seeds(one) < most]
    steps = {_next_step(one, most, at_once): one for one in unfinished}
    costs = seconds
    if any(total_seconds(step.all_runs(study), seconds) is None for step in steps):
        # An estimate from the size of the networks, for all variants alike.
        costs = {name: recipe.cost((1, *shape)) for name, recipe in study.variants.items()}

    def order(step: Step) -> tuple[bool, float]:
        return _projected(steps[step]) > most, total_seconds(step.all_runs(study), costs) or 0.0

    return sorted(steps, key=order)


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


def missing_runs(seeds: Mapping[str, int], study: Params) -> dict[str, int]:
    """The number of runs that variants need to reach a number of seeds.

    Args:
        seeds: variant → the number of seeds to reach.
        study: the parameters of the study.

    Returns:
        Variant → the number of missing runs; variants without missing runs are left out.
    """
    missing = {name: count - study.recipe(name).seeds for name, count in seeds.items()}
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


def select(study: Params, option: str | None) -> tuple[list[Pair], list[NamedRace]]:
    """The comparisons and races that --pairs names.

    Args:
        study: the parameters of the study.
        option: pairs A:B, in which A and B may be exchanged, and names of races, with commas between; None for all.

    Returns:
        The pairs and races as params.yaml has them, in its order.

    Raises:
        UserError: one is neither a comparison nor a race of params.yaml.
    """
    pairs, races = named_pairs(study), named_races(study)
    if option is None:
        return pairs, races
    selected = [sorted(name.strip() for name in text.split(":")) for text in option.split(",")]
    known = [*map(sorted, pairs), *([race.name] for race in races)]
    if unknown := [text for text, names in zip(option.split(","), selected, strict=True) if names not in known]:
        raise _unknown(unknown, pairs, races)
    return [pair for pair in pairs if sorted(pair) in selected], [race for race in races if [race.name] in selected]


def _unknown(unknown: Iterable[str], pairs: Iterable[Pair], races: Iterable[NamedRace]) -> UserError:
    received = ", ".join(repr(text.strip()) for text in unknown)
    listed = "\n".join([f"  {a}:{b}" for a, b in pairs] + [f"  {race.name}, a race" for race in races])
    return UserError(
        f"--pairs should be comparisons of {PARAMS} in the form A:B, or names of races, with commas between; received "
        f"{received}. The comparisons are\n{listed}"
    )
