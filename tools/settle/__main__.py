"""Add seeds to undecided comparisons, and to nothing else, until they have a verdict or the budget is spent.

The state is the seeds that are finished: killed at any moment, the same command goes on. A comparison is looked at
after every batch of seeds, a quarter more each time; the interval holds at every look (docs/statistics.md). The
cheapest comparison comes first: the one that is projected to take the least time.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from many_seeds import console, intervals, text
from many_seeds.errors import UserError
from many_seeds.results import Pair, Result, Results
from stages.aggregate.runs import require_one_test
from stages.recipes.shared import training
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.study import comparisons, dvc, environments, params, paths
from stages.study.comparisons import named_pairs
from stages.study.current import outdated
from stages.study.models import read_facts
from stages.study.params import Params
from stages.study.results import check_seeds, find_results, read_results
from stages.tracking.publisher import Publisher
from stages.train.executors import slots
from stages.train.plan import environment_here
from tools import stale
from tools.settle.seeds import with_seeds

MOST = 256  # seeds, unless more are asked for
LIMITS = f"--most, and split.seeds of {params.PARAMS}"


@dataclass(frozen=True)
class Step:
    """The next batch of seeds for one comparison.

    pair: the comparison.
    n: its common seeds now.
    more: how many it has afterwards.
    end: how many it has when a verdict is projected; or the most that it may have.
    """

    pair: Pair
    n: int
    more: int
    end: int


def steps(
    results: Iterable[Result],
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each undecided comparison that may still have seeds, the cheapest first.

    Args:
        results: of the comparisons.
        study: what params.yaml says.
        seconds: of a run, by variant, where one is known.
        shape: of an image.
        most: seeds of a variant.
        at_once: how many runs this machine trains at a time.
    """
    found, hopeless = [], set[Pair]()
    for result in results:
        if result.verdict == "undecided" and result.n < most:
            more = min(most, next(intervals.looks(result.n, at_once)))
            projected = result.seeds_projected or intervals.MAX_PROJECTION
            found.append(Step((result.a, result.b), result.n, more, max(more, min(most, projected))))
            if projected > most:
                hopeless.add((result.a, result.b))
    each = seconds
    if any(total(runs_of(step.pair, step.end, study), seconds) is None for step in found):
        each = {name: recipe.cost((1, *shape)) for name, recipe in study.variants.items()}  # a guess, for all of them

    def cheapest(step: Step) -> tuple[bool, float]:
        return step.pair in hopeless, total(runs_of(step.pair, step.end, study), each) or 0.0

    return sorted(found, key=cheapest)


def runs_of(pair: Pair, seeds: int, study: Params) -> dict[str, int]:
    """How many runs either variant lacks to have so many seeds."""
    lacking = {name: seeds - study.recipe(name).seeds for name in pair}
    return {name: count for name, count in lacking.items() if count > 0}


def total(runs: Mapping[str, int], each: Mapping[str, float]) -> float | None:
    """What `runs` take, one after the other, if each takes so much; None where that is not known of one of them."""
    return sum(count * each[name] for name, count in runs.items()) if runs.keys() <= each.keys() else None


def seconds_of_runs(study: Params) -> dict[str, float]:
    """How long a run of each variant took on the mean, of those whose models are here."""
    means = {}
    for variant, recipe in study.variants.items():
        folders = [paths.run_path(variant, seed) for seed in range(recipe.seeds)]
        took = [read_facts(path)["seconds"] for path in folders if (path / "run.json").exists()]
        if took:
            means[variant] = sum(took) / len(took)
    return means


def chosen(study: Params, wanted: str | None) -> list[Pair]:
    """The comparisons that --pairs names, either variant of a pair first, or all.

    Raises:
        UserError: one of them is not a comparison of params.yaml.
    """
    known = named_pairs(study)
    if wanted is None:
        return known
    named = [[name.strip() for name in text.split(":")] for text in wanted.split(",")]
    if unknown := [":".join(names) for names in named if sorted(names) not in map(sorted, known)]:
        listed = "\n".join(f"  {a}:{b}" for a, b in known)
        raise UserError(
            f"--pairs should be comparisons of {params.PARAMS}, A:B, with a comma between two; received "
            f"{', '.join(map(repr, unknown))}. There are\n{listed}"
        )
    return [pair for pair in known if sorted(pair) in map(sorted, named)]


class Settling:
    """One study on its way: what is trained and evaluated, looked at, and written to params.yaml."""

    def __init__(self, wanted: str | None, most: int) -> None:
        self._text = params.read()
        self.study = params.parse(self._text, str(params.PARAMS))
        if self.study.statistics.design == "fixed":
            raise UserError(
                "statistics.design is fixed: its intervals hold for a number of seeds that was chosen before any look. "
                "To add seeds, set it to open first, which widens the intervals for good"
            )
        self.pairs = chosen(self.study, wanted)
        if not self.pairs:
            raise UserError(
                f"{params.PARAMS} names no comparison: name two variants in comparisons, chains or approaches"
            )
        self.variants = list(dict.fromkeys(name for pair in self.pairs for name in pair))
        self.most = min(most, self.study.split.seeds)
        may_grow = {name: self.study.recipe(name).seeds for name in self.variants}
        # What can't be edited is refused now, not after hours of training.
        with_seeds(self._text, {name: seeds + 1 for name, seeds in may_grow.items() if seeds < self.most})

    def data_are_stale(self) -> bool:
        """Whether params.yaml asks for other images, or other dev images, than there are."""
        return not {"fetch", "split"}.isdisjoint(self._unseen())

    def _unseen(self) -> dict[str, list[str]]:
        return stale.reasons(stale.status(self.study))

    def lacking(self, variants: Iterable[str]) -> list[str]:
        """Those of `variants` of which not every seed is evaluated that params.yaml names.

        Raises:
            UserError: the results of one of them are damaged.
        """

        def complete(name: str) -> bool:
            results = find_results(name)
            return results is not None and results.seeds == list(range(self.study.recipe(name).seeds))

        return [name for name in variants if not complete(name)]

    def finish_runs(self, variants: Sequence[str]) -> None:
        """Train and evaluate whatever `variants` lack."""
        from stages.evaluate.stage import evaluate
        from stages.train.stage import train

        train(self.study, variants, on_finish=Publisher(self.study).publish)
        with native_stderr_hidden():
            training.prepare()  # now: once it has evaluated, TensorFlow lets no run of this process settle its threads
        for variant in variants:
            evaluate(variant, self.study.recipe(variant))

    def look(self) -> Results:
        """The results of the comparisons with the scores that are there."""
        results = {name: read_results(name) for name in self.variants}
        require_one_test({name: of.truth for name, of in results.items()})
        for name, of in results.items():
            check_seeds(paths.scores_path(name), of.seeds, range(self.study.recipe(name).seeds))
        accuracy = {name: of.accuracy for name, of in results.items()}
        images = len(results[self.variants[0]].truth)
        return comparisons.compare_variants(accuracy, self.pairs, images, self.study)

    def objections(self) -> list[str]:
        """Why seeds that this machine adds would not belong to those that are there, a line for each reason.

        Raises:
            UserError: the results of one of them are damaged.
        """
        recipes = {name: self.study.recipe(name) for name in self.variants}
        changes = {name: environments.changes_since(name, environment_here(of)) for name, of in recipes.items()}
        lines = [f"{line}. {environments.INSTALL}" for line in environments.trained_elsewhere(changes)]
        processors = (environments.processor_objection(name, of) for name, of in recipes.items())
        return lines + [text for text in processors if text]

    @property
    def at_once(self) -> int:
        """How many runs this machine trains at a time."""
        return max(slots(self.study.recipe(name)) for name in self.variants)

    def steps(self, results: Results, seconds: Mapping[str, float]) -> list[Step]:
        shape = read_results(self.variants[0]).hardest_images.shape[1:]
        return steps(results, self.study, seconds, shape, most=self.most, at_once=self.at_once)

    def add_seeds(self, runs: Mapping[str, int]) -> None:
        """Give params.yaml so many more seeds of these variants, and nothing else.

        Raises:
            UserError: somebody else has edited the file meanwhile.
        """
        wanted = {name: self.study.recipe(name).seeds + count for name, count in runs.items()}
        text = with_seeds(self._text, wanted)
        self._see_that_it_is_ours()  # as late as can be: the new text takes a moment
        params.write(text)
        self._text = text
        self.study = params.load()

    def _see_that_it_is_ours(self) -> None:
        if params.read() != self._text:
            raise UserError(
                f"{params.PARAMS} was edited while this ran. Nothing is lost: what was trained is kept, and the same "
                "command goes on with the file as it is now"
            )

    def record(self) -> None:
        """Let DVC see what was trained and evaluated, leave alone what it has recorded already, and make the report."""
        self._see_that_it_is_ours()
        unseen = self._unseen()
        stages = {name: [f"train@{name}", f"evaluate@{name}"] for name in self.variants}
        changed = [stage for pair in stages.values() if unseen.keys() & pair for stage in pair]
        lacking = self.lacking(self.study.variants)
        if changed or not lacking:
            _dvc("--single-item", "code", *changed, *(["aggregate"] if not lacking else []))
        if lacking:
            print(
                f"The report is not made: seeds that {params.PARAMS} names are missing of {', '.join(lacking)}. "
                "`STUDY_REUSE=1 dvc repro` trains them"
            )
        if others := unseen.keys() - {"code", "aggregate", *changed}:
            print(f"Stale besides, and left as they are: {', '.join(sorted(others))}; `make stale` says why.")


def _dvc(*arguments: str) -> None:
    command = dvc.command("--wait-for-lock", "repro", "--quiet", *arguments)
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(
            f"`dvc repro {' '.join(arguments)}` failed; what was trained is kept, and the same command goes on"
        )


def settle(settling: Settling, hours: float) -> None:
    """Step by step, until nothing is left to do or to spend; the last table has all results."""
    deadline, added = time.monotonic() + 3600 * hours, 0
    settling.finish_runs(settling.variants)
    while True:
        results = settling.look()
        print(text.table(results), flush=True)
        left, seconds = deadline - time.monotonic(), seconds_of_runs(settling.study)
        waiting = settling.steps(results, seconds)
        for step in waiting:
            runs = runs_of(step.pair, step.more, settling.study)
            if 0 < left >= (total(runs, seconds) or 0.0) / settling.at_once:
                break
        else:
            break
        print(f"{_name(step.pair)}: {step.n} → {step.more} seeds, {sum(runs.values())} runs", flush=True)
        settling.add_seeds(runs)
        settling.finish_runs(list(runs))
        added += sum(runs.values())
    settling.record()
    why = {}
    for step in waiting:
        runs = runs_of(step.pair, step.more, settling.study)
        why[step.pair] = _why_not(runs, seconds, settling.at_once, left)
    print(conclusion(results, settling.study, why, added))


def _why_not(runs: Mapping[str, int], seconds: Mapping[str, float], at_once: int, left: float) -> str:
    """Why these runs are not trained when so many seconds are left."""
    took = total(runs, seconds)
    if left <= 0 or took is None:
        return "the hours are spent"
    return f"its next {sum(runs.values())} runs take {_duration(took / at_once)}, and {_duration(left)} are left"


def _name(pair: Pair) -> str:
    return f"{pair[0]} → {pair[1]}"


def _more(result: Result) -> str:
    if result.seeds_projected is None:
        return "no number of seeds can be projected yet"
    return f"about {result.seeds_projected - result.n:,} more seeds projected"


def conclusion(results: Results, study: Params, why: Mapping[Pair, str], added: int) -> str:
    """Which comparisons have a verdict and which have none, why, and how many runs that took.

    Args:
        results: of the comparisons.
        study: what params.yaml says.
        why: a comparison gets no more seeds now; an undecided one that is not in it has all that it may have.
        added: runs that this call gave params.yaml.
    """
    lines = [f"{text.summary(results)}. This call added {added} runs to {params.PARAMS}."]
    for result in results:
        if result.verdict == "undecided":
            pair = result.a, result.b
            reason = why.get(pair, f"it has the most seeds that it may have, {result.n} ({LIMITS})")
            lines.append(f"undecided: {_name(pair)}, {reason}; {_more(result)}")
    names = {name for result in results for name in (result.a, result.b)}
    taken = sum(study.recipe(name).seeds for name in names)
    fixed = len(names) * max(study.recipe(name).seeds for name in names)
    lines.append(f"{taken} runs in all; as many seeds for each of these {len(names)} variants would be {fixed}.")
    return "\n".join(lines)


def plan(settling: Settling) -> str:
    """What would be trained, how long it takes on this machine, and when which verdict is projected."""
    if settling.data_are_stale():
        return f"The images are not those of {params.PARAMS}: `dvc repro split` first, then a plan"
    if objections := settling.objections():
        return "\n".join(["No seed would be added:", *objections])
    of_others = outdated(settling.study)
    lacking = settling.lacking(settling.variants)
    if first := [name for name in settling.variants if name in {*lacking, *of_others}]:
        return (
            f"Seeds that {params.PARAMS} names are missing of {', '.join(first)}, or are of another recipe or other "
            "data: they come first, without --plan, then a plan"
        )
    results, seconds, at_once = settling.look(), seconds_of_runs(settling.study), settling.at_once
    lines, ends = [text.table(results), ""], dict[str, int]()  # ends: seeds of each variant, pairs share them
    left = settling.steps(results, seconds)
    for step in left:
        runs = ", ".join(f"{count} of {name}" for name, count in runs_of(step.pair, step.more, settling.study).items())
        ends |= {name: max(step.end, ends.get(name, 0)) for name in step.pair}
        with_above = {
            name: count for name, end in ends.items() if (count := end - settling.study.recipe(name).seeds) > 0
        }
        times = [
            None if (took := total(wanted, seconds)) is None else took / at_once
            for wanted in (runs_of(step.pair, step.end, settling.study), with_above)
        ]
        start = f"{_name(step.pair)}: next {step.n} → {step.more} seeds, runs: {runs or 'none'}"
        lines.append(f"{start}; {_until(results[step.pair], step.end, *times)}")
    if left:
        return "\n".join(lines)
    undecided = sum(result.verdict == "undecided" for result in results)
    end = f"; {undecided} undecided with the most seeds that they may have ({LIMITS})" if undecided else ""
    return f"{lines[0]}\n\n{text.summary(results)}{end}"


def _until(result: Result, end: int, took: float | None, with_above: float | None) -> str:
    if took is None:
        return "no run of it is here that says how long one takes"
    above = "" if with_above is None else f", {_duration(with_above)} with those above"
    projected = result.seeds_projected
    if projected is None or projected > end:
        about = "" if projected is None else f"; a verdict is projected at {projected:,}"
        return f"{_duration(took)} to {end} seeds, the most that it may have{above}{about}"
    return f"verdict projected at {projected:,} seeds, after {_duration(took)}{above}"


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def hours(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"should be more than 0, received {text}")
    return value


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.settle", description=__doc__)
    parser.add_argument("--pairs", metavar="A:B,…", help="comparisons of params.yaml; by default all")
    parser.add_argument(
        "--most",
        type=int,
        default=MOST,
        metavar="SEEDS",
        help="that a variant gets at most (%(default)s), or as many as split.seeds",
    )
    parser.add_argument(
        "--hours",
        type=hours,
        default=float("inf"),
        help="no batch of added seeds begins that takes longer than what is left; the first of a "
        "variant does, if no run of it is here that says how long it takes",
    )
    parser.add_argument("--plan", action="store_true", help="say what would be trained, and train nothing")
    arguments = parser.parse_args()
    if arguments.most < 1:
        parser.error(f"--most should be at least 1, received {arguments.most}")
    if arguments.plan and arguments.hours < float("inf"):
        parser.error("--plan says what all of it would take: leave --hours out")
    settling = Settling(arguments.pairs, arguments.most)
    if arguments.plan:
        print(plan(settling))
        return
    if objections := settling.objections():
        raise UserError("no seed is added:\n" + "\n".join(objections))
    dvc.command()  # rather now than after hours of training
    # One thread for evaluation, set before TensorFlow is imported. Runs that were evaluated count without their models.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    os.environ["STUDY_REUSE"] = "1"
    if not paths.TRAIN.exists() or settling.data_are_stale():
        _dvc("split")
    settle(settling, arguments.hours)


if __name__ == "__main__":
    main()
