"""The next batches of seeds, and how long they take: pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from many_seeds.errors import UserError
from many_seeds.results import Pair, Result
from many_seeds.statistics import intervals
from stages.study.comparisons import named_pairs
from stages.study.params import PARAMS, Params

FIRST_LOOK = 10  # seeds of a comparison that has none yet


@dataclass(frozen=True)
class Step:
    """The next batch of seeds of one comparison.

    Attributes:
        pair: the variants of the comparison.
        n: the number of common seeds now.
        next_n: the number of common seeds after the batch.
        final_n: the number of seeds at which a verdict is projected, or the maximum number of seeds.
    """

    pair: Pair
    n: int
    next_n: int
    final_n: int

    def next_runs(self, study: Params) -> dict[str, int]:
        """Variant → the number of runs of the batch."""
        return missing_runs(dict.fromkeys(self.pair, self.next_n), study)

    def all_runs(self, study: Params) -> dict[str, int]:
        """Variant → the number of runs until `final_n` seeds."""
        return missing_runs(dict.fromkeys(self.pair, self.final_n), study)


def next_steps(
    results: Iterable[Result],
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each pair with an undecided comparison and fewer than the maximum number of seeds.

    Args:
        results: of the comparisons, by whatever scores.
        study: the parameters of the study.
        seconds: variant → the mean duration of a run, where it is known.
        shape: of an image.
        most: the maximum number of seeds of a variant.
        at_once: the number of runs that this machine trains at a time.

    Returns:
        The steps, those that take the least time until a verdict first. Comparisons without a projected verdict within
        the maximum number of seeds are last.
    """
    open_results = [result for result in longest_undecided(results).values() if _seeds(result) < most]
    steps = {_next_step(result, most, at_once): result for result in open_results}
    costs = seconds
    if any(total_seconds(step.all_runs(study), seconds) is None for step in steps):
        # An estimate from the size of the networks, for all variants alike.
        costs = {name: recipe.cost((1, *shape)) for name, recipe in study.variants.items()}

    def order(step: Step) -> tuple[bool, float]:
        return _projected(steps[step]) > most, total_seconds(step.all_runs(study), costs) or 0.0

    return sorted(steps, key=order)


def longest_undecided(results: Iterable[Result]) -> dict[Pair, Result]:
    """Pair → its undecided result, of several scores the one that needs the most seeds."""
    found: dict[Pair, Result] = {}
    for result in results:
        pair = result.a, result.b
        if result.verdict == "undecided" and (pair not in found or _projected(found[pair]) < _projected(result)):
            found[pair] = result
    return found


def _next_step(result: Result, most: int, at_once: int) -> Step:
    more = next(intervals.looks(result.n, at_once)) if result.n else max(FIRST_LOOK, at_once)
    next_n = min(most, result.from_seed + more)
    return Step((result.a, result.b), _seeds(result), next_n, max(next_n, min(most, _projected(result))))


def _seeds(result: Result) -> int:
    """The number of seeds of both variants, with those that the comparison leaves out."""
    return result.from_seed + result.n


def _projected(result: Result) -> int:
    """The number of seeds of both variants at which a verdict is projected."""
    return result.from_seed + (result.seeds_projected or intervals.MAX_PROJECTION)


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


def select_pairs(study: Params, option: str | None) -> list[Pair]:
    """The comparisons that --pairs names.

    Args:
        study: the parameters of the study.
        option: pairs A:B with commas between, in which A and B may be exchanged; None for all comparisons.

    Returns:
        The pairs as params.yaml has them, in its order.

    Raises:
        UserError: a pair is not a comparison of params.yaml.
    """
    known = named_pairs(study)
    if option is None:
        return known
    selected = [[name.strip() for name in text.split(":")] for text in option.split(",")]
    unordered = [sorted(pair) for pair in known]
    if unknown := [names for names in selected if sorted(names) not in unordered]:
        raise _unknown_pairs(unknown, known)
    return [pair for pair in known if sorted(pair) in map(sorted, selected)]


def _unknown_pairs(unknown: Iterable[Sequence[str]], known: Iterable[Pair]) -> UserError:
    received = ", ".join(repr(":".join(names)) for names in unknown)
    listed = "\n".join(f"  {a}:{b}" for a, b in known)
    return UserError(
        f"--pairs should be comparisons of {PARAMS} in the form A:B, with commas between; received {received}. The "
        f"comparisons are\n{listed}"
    )
