"""Train the samples, compare each with what is recorded, and say what came of every check."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from many_seeds.errors import UserError
from stages.evaluate.run import evaluate_run
from stages.recipes.shared import training
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.study import environments, paths
from stages.study.environments import Environment, Part, kind
from stages.study.params import Params
from stages.study.results import NOT_RECORDED, read_results
from stages.study.splits import read_classes, read_images
from stages.train.plan import finished, longest_first, plan
from stages.train.run import Run
from stages.train.schedule import train_all
from tools.certify import old
from tools.certify.compare import Outcome, difference, outcome, recorded, same_weights
from tools.certify.sample import Check, as_here, objection

FOLDER = Path("build/certify")
TRAINED_HERE, OLD_CODE_HERE = "trained here", "old code here"
Runs = Mapping[tuple[str, int], Run]


@dataclass
class Result:
    """What came of a check.

    Attributes:
        check: the check.
        same: the parts that are the same in every seed of the sample.
        different: the first difference, where there is one.
        unchecked: of each part that could not be compared, why.
        how: "trained here", or "old code here".
        seconds: of training and evaluation.
    """

    check: Check
    same: list[Part] = field(default_factory=list)
    different: str | None = None
    unchecked: dict[Part, str] = field(default_factory=dict)
    how: str = TRAINED_HERE
    seconds: float = 0.0


class Study:
    """The images and the runs of a study, as today's code would train them.

    Attributes:
        runs: every run of the variants to check, by variant and seed.
    """

    def __init__(self, study: Params, variants: Sequence[str]) -> None:
        needed = (paths.TRAIN, paths.DEV, paths.TEST)
        if missing := [str(path) for path in needed if not path.exists()]:
            raise UserError(f"{', '.join(missing)} missing: run `dvc repro split`, which trains nothing")
        self.images, self._labels = read_images(paths.TRAIN)
        classes = len(read_classes(paths.TRAIN))
        planned = plan(study, variants, self.images, self._labels, classes)
        self.runs: Runs = {(run.variant, run.seed): as_here(run) for run in planned}

    def missing(self, checks: Sequence[Check]) -> list[Run]:
        """The runs of the samples that are not finished in build/certify, the longest first."""
        wanted = [self.runs[check.variant, seed] for check in checks for seed in check.seeds]
        return longest_first([run for run in wanted if self.finished(run) is None], self.images.shape)

    def finished(self, run: Run) -> dict[str, Any] | None:
        """What run.json says of a run in build/certify that is whole and was trained on a processor like this one."""
        facts = finished(run, FOLDER)
        same = facts is not None and kind(facts["processor"]) == kind(environments.processor())
        return facts if same else None

    def train(self, checks: Sequence[Check]) -> None:
        """Train what is missing; of runs that fail, it is said why, and the others are kept."""
        if not (runs := self.missing(checks)):
            return
        try:
            train_all(runs, self.images, self._labels, on_finish=lambda variant, seed: None, folder=FOLDER)
        except UserError as error:
            print(error, flush=True)


def uncheckable(check: Check, study: Study) -> str | None:
    """Why a check can't be made here, or None."""
    if check.batched:
        return "its runs were trained as batched seeds on a GPU, which a processor can't repeat"
    scores = read_results(check.variant).scores
    return objection(check, study.runs, scores.set_index("seed")["key"])


def compared(checks: Sequence[Check], study: Study) -> Iterator[Result]:
    """Compare the trained samples with what is recorded, check by check.

    Raises:
        UserError: a recorded file is damaged.
    """
    with native_stderr_hidden():
        training.prepare()  # before the first operation of this process, which evaluates on one thread
    images, truth = read_images(paths.TEST)
    suspects: list[Suspect] = []
    for check in checks:
        if not np.array_equal(read_results(check.variant).truth, truth):
            reason = f"{paths.TEST} has other test images than were evaluated: run `dvc repro split`"
            yield Result(check, unchecked=dict.fromkeys(check.parts, reason))
            continue
        result = Result(check)
        if suspect := _judged(result, _trained(result, study, images, truth)):
            print(f"{check.variant}: seed {suspect.first}", flush=True)
            suspects.append(suspect)
        else:
            yield result
    yield from _against_old_code(suspects, study)


@dataclass(frozen=True)
class Suspect:
    """A check whose sample differs from what another kind of processor made.

    Attributes:
        result: of the check.
        here: what came of the sample here, by seed.
        found: the first difference of each seed that differs.
    """

    result: Result
    here: dict[int, Outcome]
    found: dict[int, str]

    @property
    def first(self) -> str:
        seed = next(iter(self.found))
        return f"{seed}: {self.found[seed]} ({_made_on(self.result.check, seed)})"

    @property
    def roots(self) -> tuple[str, ...]:
        """What the old code is found by."""
        check = self.result.check
        return *(str(environment) for environment in check.roots.values()), *check.parts


def _trained(result: Result, study: Study, images: np.ndarray, truth: np.ndarray) -> dict[int, Outcome]:
    """What came of the sample, by seed; of runs that failed, the result says so."""
    check, started = result.check, time.perf_counter()
    here: dict[int, Outcome] = {}
    for seed in check.seeds:
        facts = study.finished(study.runs[check.variant, seed])
        if facts is None:
            result.different = f"seed {seed} could not be trained, as is said above"
            return {}
        folder = paths.run_path(check.variant, seed, FOLDER)
        run = evaluate_run(folder, check.recipe, seed, images, truth, check.here["evaluate"])[-1]
        here[seed] = outcome(folder, run, facts["digests"]["model"])
        result.seconds += facts["seconds"]
    result.seconds += time.perf_counter() - started
    return here


def _judged(result: Result, here: dict[int, Outcome]) -> Suspect | None:
    """Compare the sample with what is recorded; what differs, but was made on another processor, is returned."""
    check = result.check
    found = {seed: words for seed, run in here.items() if (words := difference(_recorded(check, seed), run))}
    for seed in found:
        if same_kind(check, seed):
            result.different = f"seed {seed}: {found[seed]}"
            return None
    if found:
        return Suspect(result, here, found)
    if here:
        result.same = list(check.parts)
    return None


def _against_old_code(suspects: Sequence[Suspect], study: Study) -> Iterator[Result]:
    """Compare with what the old code makes here, those of the same old code as one batch."""
    for roots in dict.fromkeys(suspect.roots for suspect in suspects):
        batch = [suspect for suspect in suspects if suspect.roots == roots]
        names = [(suspect.result.check.variant, seed) for suspect in batch for seed in suspect.found]
        started = time.perf_counter()
        runs: dict[old.Name, old.OldRun | UserError]
        try:
            wanted = longest_first([study.runs[name] for name in names], study.images.shape)
            by_name = {(run.variant, run.seed): run for run in wanted}
            runs = old.train([suspect.result.check for suspect in batch], by_name, FOLDER)
        except UserError as error:
            runs = dict.fromkeys(names, error)
        for suspect in batch:
            suspect.result.seconds += (time.perf_counter() - started) / len(batch)
            _judge_codes(suspect, runs)
            yield suspect.result


def _judge_codes(suspect: Suspect, runs: Mapping[old.Name, old.OldRun | UserError]) -> None:
    """Compare the sample of today's code with that of the old code, both trained here."""
    result, check, evaluated = suspect.result, suspect.result.check, True
    for seed in suspect.found:
        run = runs[check.variant, seed]
        if isinstance(run, UserError):
            result.different = f"seed {suspect.first}; {run}"
            return
        if words := _from_old(check, seed, run, suspect.here[seed]):
            result.different = f"seed {seed}: {words}"
            return
        evaluated = evaluated and run.evaluated
    result.how = OLD_CODE_HERE
    for part in check.parts:
        if part == "train" or evaluated:
            result.same.append(part)
        else:
            result.unchecked[part] = (
                "its scores were made on another kind of processor, and no commit has both the code that trained and "
                "the code that evaluated it"
            )


def _recorded(check: Check, seed: int) -> Outcome:
    """What is recorded of a seed; not the digest of a model of another Keras, whose version is a part of its bytes."""
    row = check.rows[seed]
    keras = Environment.parse(row["environment"]).versions.get("keras")
    comparable = keras == check.here["train"].versions.get("keras")
    return recorded(check.variant, seed, check.recipe.curve, str(row["model"]) if comparable else NOT_RECORDED)


def same_kind(check: Check, seed: int) -> bool:
    """Whether a seed is recorded with a processor that makes the bits of this one."""
    processor = str(check.rows[seed]["processor"])
    return processor != NOT_RECORDED and kind(processor) == kind(environments.processor())


def _made_on(check: Check, seed: int) -> str:
    processor = check.rows[seed]["processor"]
    return "made on a processor that is not recorded" if processor == NOT_RECORDED else f"made on {processor}"


def _from_old(check: Check, seed: int, run: old.OldRun, here: Outcome) -> str | None:
    """How a run of today's code differs from the same run of the old code, both trained here, or None."""
    former = run.outcome
    same_keras = check.roots["train"].versions.get("keras") == check.here["train"].versions.get("keras")
    words = difference(former if same_keras else replace(former, model=NOT_RECORDED), here, "by the old code")
    if words is None and not same_keras:
        folder = paths.run_path(check.variant, seed, FOLDER)
        if not same_weights(run.folder / "model.keras", folder / "model.keras"):
            words = "the weights of its model.keras differ from those by the old code"
    return words
