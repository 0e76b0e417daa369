"""Sentences about comparisons, seeds and durations."""

from collections.abc import Mapping, Sequence

from many_seeds.output import text
from many_seeds.results import Pair, Result, Results
from stages.study.params import PARAMS, Params

LIMITS = f"--most and split.seeds of {PARAMS}"


def tables(groups: Sequence[Results]) -> str:
    """The tables of results, one for each score and margin, and below them the remarks, such as on diverged runs."""
    remarks = dict.fromkeys(remark for results in groups for remark in results.remarks)
    found = [text.table(results) for results in groups]
    return "\n\n".join([*found, "\n".join(remarks)] if remarks else found)


def all_of(groups: Sequence[Results]) -> list[Result]:
    """The results of all scores and margins."""
    return [result for results in groups for result in results]


def conclusion(groups: Sequence[Results], study: Params, reasons: Mapping[Pair, str], added: int) -> str:
    """How many comparisons have a verdict, why the others have none, and the number of runs.

    Args:
        groups: of the comparisons, for each score and margin.
        study: the parameters of the study.
        reasons: why undecided comparisons get no more seeds now; one that is left out has the maximum number of seeds.
        added: the number of runs that were added to params.yaml.
    """
    lines = [f"{text.summary(*groups)}. This call added {added} runs to {PARAMS}."]
    for results in groups:
        by = f", by {results.metric}" if len(groups) > 1 else ""
        for result in results:
            if result.verdict == "undecided":
                pair = result.a, result.b
                reason = reasons.get(pair, f"it has the maximum of {result.from_seed + result.n} seeds ({LIMITS})")
                lines.append(f"undecided: {pair_name(pair)}{by}: {reason}; {_more_seeds(result)}")
    names = {name for result in all_of(groups) for name in (result.a, result.b)}
    seeds = [study.recipe(name).seeds for name in names]
    fixed = len(seeds) * max(seeds)
    lines.append(
        f"{sum(seeds)} runs in total; with the same number of seeds for all {len(seeds)} variants it would be {fixed}."
    )
    return "\n".join(lines)


def _more_seeds(result: Result) -> str:
    if result.seeds_projected is None:
        return "no verdict is projected at any number of seeds"
    return f"a verdict is projected after about {result.seeds_projected - result.n:,} more seeds"


def why_not_trained(count: int, seconds: float | None, seconds_left: float) -> str:
    """Why the next runs of a comparison are not trained.

    Args:
        count: the number of runs.
        seconds: their duration; None if it is unknown.
        seconds_left: what is left of --hours.
    """
    if seconds_left <= 0 or seconds is None:
        return "the time of --hours is used up"
    return f"its next {count} runs take {duration(seconds)}, and {duration(seconds_left)} are left"


def projection(result: Result, final_n: int, seconds: float | None, seconds_with_earlier: float | None) -> str:
    """When a verdict is projected.

    Args:
        result: of the comparison.
        final_n: the number of seeds at which a verdict is projected, or the maximum number of seeds.
        seconds: the duration of the runs until then; None if it is unknown.
        seconds_with_earlier: the same with the runs of the comparisons listed before.
    """
    if seconds is None:
        return "duration unknown: no run of it is in this workspace"
    total = "" if seconds_with_earlier is None else f" ({duration(seconds_with_earlier)} with the comparisons above)"
    projected = None if result.seeds_projected is None else result.from_seed + result.seeds_projected
    if projected is not None and projected <= final_n:
        return f"verdict projected at {projected:,} seeds, after {duration(seconds)}{total}"
    later = "" if projected is None else f"; a verdict is projected at {projected:,}"
    return f"{duration(seconds)} until the maximum of {final_n} seeds{total}{later}"


def pair_name(pair: Pair) -> str:
    return f"{pair[0]} → {pair[1]}"


def duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
