"""Add seeds to the questions that are undecided, and to nothing else, until they are decided or the budget is spent.

The state is the seeds that are finished: killed at any moment, the same command goes on. A question is looked at after
every batch of seeds, a quarter more each time; the interval holds at every look (docs/statistics.md). The cheapest
question comes first: that which by forecast takes the least time.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages import dvc, files, params, records, sequential, stale, terminal
from stages.aggregate.answers import Pair, answers, family
from stages.aggregate.runs import read_runs
from stages.errors import StudyError
from stages.params import Params
from stages.seeds import with_seeds
from stages.train.executors import slots

MOST = 256  # seeds, unless more are asked for


@dataclass(frozen=True)
class Step:
    """The next batch of seeds for one question.

    pair: the question. n: its common seeds now. more: how many it has afterwards. runs: to be trained for that, by
    variant. seconds: these runs take, one after the other; None where none of a variant's runs says.
    to_end: the seconds until it is decided, by forecast; None where they can't be told.
    effort: a guess at the multiplications until then, up to a factor that all questions share.
    """

    pair: Pair
    n: int
    more: int
    runs: Mapping[str, int]
    seconds: float | None
    to_end: float | None
    effort: float


def steps(
    table: pd.DataFrame,
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
    *,
    most: int,
    at_once: int,
) -> list[Step]:
    """The next step of each undecided question of `table` that may still have seeds, the cheapest question first.

    seconds: of a run, by variant, where one is known. shape: of an image. most: seeds of a variant.
    at_once: how many runs this machine trains at a time.
    """
    found = []
    for row in table[table["verdict"] == "undecided"].itertuples():
        if row.n < most:
            more = min(most, next(sequential.looks(int(row.n), at_once)))
            about = most if pd.isna(row.seeds_about) else min(most, int(row.seeds_about))
            found.append(_step((row.a, row.b), int(row.n), more, max(more, about), study, seconds, shape))
    hopeless = {(row.a, row.b): pd.isna(row.seeds_about) or row.seeds_about > most for row in table.itertuples()}
    if any(step.to_end is None for step in found):  # seconds and guesses can't be compared
        return sorted(found, key=lambda step: (hopeless[step.pair], step.effort))
    return sorted(found, key=lambda step: (hopeless[step.pair], step.to_end or 0.0))


def _step(
    pair: Pair,
    n: int,
    more: int,
    end: int,
    study: Params,
    seconds: Mapping[str, float],
    shape: tuple[int, ...],
) -> Step:
    def took(seeds: int) -> float | None:
        runs = {name: max(0, seeds - study.recipe(name).seeds) for name in pair}
        known = all(name in seconds for name, count in runs.items() if count)
        return sum(count * seconds[name] for name, count in runs.items() if count) if known else None

    runs = {name: more - study.recipe(name).seeds for name in pair if study.recipe(name).seeds < more}
    effort = sum(max(0, end - study.recipe(name).seeds) * study.recipe(name).cost((1, *shape)) for name in pair)
    return Step(pair, n, more, runs, took(more), took(end), effort)


def seconds_of_runs(study: Params) -> dict[str, float]:
    """How long a run of each variant took on the mean, of those whose models are here."""
    means = {}
    for variant, recipe in study.variants.items():
        paths = [records.run_path(variant, seed) for seed in range(recipe.seeds)]
        took = [records.read_facts(path)["seconds"] for path in paths if (path / "run.json").exists()]
        if took:
            means[variant] = sum(took) / len(took)
    return means


def chosen(study: Params, wanted: str | None) -> list[Pair]:
    """The questions that --pairs names, or all.

    Raises:
        StudyError: one of them is not a question of params.yaml.
    """
    known = family(study)
    if wanted is None:
        return known
    named = [tuple(text.split(":")) for text in wanted.split(",")]
    if unknown := [":".join(pair) for pair in named if pair not in known]:
        listed = ", ".join(":".join(pair) for pair in known)
        raise StudyError(f"--pairs names {', '.join(unknown)}, but {params.PARAMS} asks {listed}")
    return [pair for pair in known if pair in named]


class Settling:
    """One study on its way: what is trained and evaluated, looked at, and written to params.yaml."""

    def __init__(self, wanted: str | None, most: int) -> None:
        self._text = params.PARAMS.read_text(encoding="utf-8")
        self.study = params.parse(self._text, str(params.PARAMS))
        if self.study.statistics.design == "fixed":
            raise StudyError(
                "statistics.design is fixed: its intervals hold for a number of seeds that was chosen before any look. "
                "To add seeds, set it to open first, which widens the intervals for good"
            )
        self.pairs = chosen(self.study, wanted)
        self.variants = list(dict.fromkeys(name for pair in self.pairs for name in pair))
        self._most = min(most, self.study.split.seeds)

    def finish_runs(self, variants: Sequence[str]) -> None:
        """Train and evaluate whatever `variants` lack."""
        from stages.evaluate.__main__ import evaluate
        from stages.train.__main__ import train

        train(self.study, list(variants))
        for variant in variants:
            evaluate(variant, self.study.recipe(variant))

    def look(self) -> pd.DataFrame:
        """The answers to the questions, as the seeds have it that are there."""
        return answers(read_runs(self.study, self.variants), self.pairs, self.study)

    @property
    def at_once(self) -> int:
        """How many runs this machine trains at a time."""
        return max(slots(self.study.recipe(name)) for name in self.variants)

    def steps(self, table: pd.DataFrame) -> list[Step]:
        seconds = seconds_of_runs(self.study)
        shape = files.read_arrays(records.predictions_path(self.variants[0]))["hardest_images"].shape[1:]
        return steps(table, self.study, seconds, shape, most=self._most, at_once=self.at_once)

    def add_seeds(self, step: Step) -> None:
        """Give params.yaml the seeds of a step, and nothing else.

        Raises:
            StudyError: somebody else has edited the file meanwhile.
        """
        wanted = {name: self.study.recipe(name).seeds + count for name, count in step.runs.items()}
        text = with_seeds(self._text, wanted)
        self._see_that_it_is_ours()  # as late as can be: the new text takes a moment
        params.write(text)
        self._text = text
        self.study = params.load()

    def _see_that_it_is_ours(self) -> None:
        if params.PARAMS.read_text(encoding="utf-8") != self._text:
            raise StudyError(
                f"{params.PARAMS} was edited while this ran. Nothing is lost: what was trained is kept, and the same "
                "command goes on with the file as it is now"
            )

    def record(self) -> None:
        """Let DVC see what was trained and evaluated, and leave alone what it has recorded already."""
        unseen = stale.reasons(stale.status(self.study))
        stages = {name: [f"train@{name}", f"evaluate@{name}"] for name in self.variants}
        changed = [stage for pair in stages.values() if unseen.keys() & pair for stage in pair]
        _dvc("--single-item", *changed, "aggregate")


def _dvc(*arguments: str) -> None:
    command = dvc.command("--wait-for-lock", "repro", "--quiet", *arguments)
    if subprocess.run(command, check=False).returncode != 0:
        raise StudyError(
            f"`dvc repro {' '.join(arguments)}` failed; what was trained is kept, and the same command goes on"
        )


def settle(settling: Settling, hours: float) -> None:
    """Step by step, until nothing is left to do or to spend; the last table says what is decided."""
    deadline, runs = time.monotonic() + 3600 * hours, 0
    settling.finish_runs(settling.variants)
    while True:
        table = settling.look()
        print(as_text(table), flush=True)
        left = deadline - time.monotonic()
        affordable = [step for step in settling.steps(table) if 0 < left >= (step.seconds or 0.0) / settling.at_once]
        if not affordable:
            break
        step = affordable[0]
        print(f"{_name(step.pair)}: {step.n} → {step.more} seeds, {sum(step.runs.values())} runs", flush=True)
        settling.add_seeds(step)
        settling.finish_runs([name for name in step.pair if name in step.runs])
        runs += sum(step.runs.values())
    settling.record()
    print(conclusion(table, settling.study, settling.steps(table), runs))


def as_text(table: pd.DataFrame) -> str:
    """A line for each question: its seeds, interval, verdict and, if undecided, how many seeds it may take."""
    width = max(len(_name((row.a, row.b))) for row in table.itertuples())
    lines = []
    for row in table.itertuples():
        interval = f"{row.low:+.3f} … {row.high:+.3f}"
        line = f"{_name((row.a, row.b)):<{width}}  {row.n:>3} seeds  {interval:>18}  {row.verdict}"
        lines.append(line + (f", {_more(row)}" if row.verdict == "undecided" else ""))
    return "\n".join(lines)


def _name(pair: Pair) -> str:
    return f"{pair[0]} → {pair[1]}"


def _more(row: Any) -> str:
    if pd.isna(row.seeds_about):
        return "about how many more can't be told yet"
    return f"about {row.seeds_about - row.n:,} more"


def conclusion(table: pd.DataFrame, study: Params, left: Sequence[Step], runs: int) -> str:
    """What is decided and what is not, why, and what it took beside as many seeds for every variant."""
    decided = table[table["verdict"] != "undecided"]
    lines = [f"{len(decided)} of {len(table)} questions are decided; {runs} runs were trained for it."]
    waiting = {step.pair for step in left}
    for row in table[table["verdict"] == "undecided"].itertuples():
        why = "the hours are spent" if (row.a, row.b) in waiting else f"after the most seeds that it may have, {row.n}"
        lines.append(f"undecided: {_name((row.a, row.b))}, {why}; {_more(row)}")
    names = {name for row in table.itertuples() for name in (row.a, row.b)}
    taken = sum(study.recipe(name).seeds for name in names)
    fixed = len(names) * max(study.recipe(name).seeds for name in names)
    lines.append(f"{taken} runs in all; as many seeds for each of these {len(names)} variants would be {fixed}.")
    return "\n".join(lines)


def plan(settling: Settling) -> str:
    """What would be trained, how long it takes on this machine, and when what is expected to be decided."""
    table = settling.look()
    lines, hours = [as_text(table), ""], 0.0
    left = settling.steps(table)
    for step in left:
        (row,) = table[(table["a"] == step.pair[0]) & (table["b"] == step.pair[1])].itertuples()
        runs = ", ".join(f"{count} of {name}" for name, count in step.runs.items()) or "none"
        took = None if step.to_end is None else step.to_end / settling.at_once / 3600
        hours += took or 0.0
        lines.append(f"{_name(step.pair)}: next {step.n} → {step.more} seeds, runs: {runs}; {_until(row, took, hours)}")
    if left:
        return "\n".join(lines)
    undecided = int(table["verdict"].eq("undecided").sum())
    end = f"{undecided} undecided, with the most seeds that they may have" if undecided else "every one decided"
    return f"{lines[0]}\n\n{len(table)} questions: {end}"


def _until(row: Any, took: float | None, hours: float) -> str:
    if took is None:
        return "no run of it is here that says how long one takes"
    if pd.isna(row.seeds_about):
        return f"{took:.1f} hours to the most seeds that it may have"
    return f"decided at about {row.seeds_about:,} seeds, after {took:.1f} hours, {hours:.1f} with those above"


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"should be more than 0, received {text}")
    return value


@terminal.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.settle", description=__doc__)
    parser.add_argument("--pairs", metavar="A:B,…", help="questions of params.yaml; without it, all")
    parser.add_argument("--most", type=int, default=MOST, metavar="SEEDS", help="that a variant gets (%(default)s)")
    parser.add_argument(
        "--hours", type=_positive, default=float("inf"), help="no batch of seeds begins that takes longer"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be trained, and train nothing")
    arguments = parser.parse_args()
    if arguments.most < 1:
        parser.error(f"--most should be at least 1, received {arguments.most}")
    settling = Settling(arguments.pairs, arguments.most)
    if arguments.plan:
        print(plan(settling))
        return
    dvc.command()  # rather now than after hours of training
    # One thread for evaluation, set before TensorFlow is imported. Runs that were evaluated count without their models.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    os.environ["STUDY_REUSE"] = "1"
    if not records.TRAIN.exists():
        _dvc("split")
    settle(settling, arguments.hours)


if __name__ == "__main__":
    main()
