"""Compare the samples with the recorded results, or with those of the old code on this machine."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from many_seeds.errors import UserError
from stages.evaluate.run import evaluate_run
from stages.recipes.shared import training
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.study import paths
from stages.study.provenance import environments
from stages.study.provenance.environments import OLD_CODE_HERE, TRAINED_HERE, Environment, Part, kind
from stages.study.records.results import NOT_RECORDED, read_results
from stages.study.records.splits import read_images
from stages.train.plan import longest_first
from tools.certify import old
from tools.certify.old import OldRun, RunName
from tools.certify.outcomes import Outcome, difference, recorded_outcome, retrained_outcome, same_weights
from tools.certify.retrained import RetrainedRuns
from tools.certify.sample import Check, objection


@dataclass
class CheckResult:
    """The result of a check.

    Attributes:
        check: the check.
        same: the parts with the same bits in every seed of the sample.
        different: the first difference, or None.
        unchecked: part → why it could not be compared.
        how: "trained here", or "old code here".
        seconds: the duration of training and evaluation.
    """

    check: Check
    same: list[Part] = field(default_factory=list)
    different: str | None = None
    unchecked: dict[Part, str] = field(default_factory=dict)
    how: str = TRAINED_HERE
    seconds: float = 0.0

    @property
    def compared(self) -> bool:
        """Whether any part was compared."""
        return not self.unchecked or bool(self.same) or self.different is not None

    @property
    def certified_stale(self) -> bool:
        """Whether a stale part has the same bits."""
        return any(part in self.check.stale for part in self.same)


@dataclass(frozen=True)
class Suspect:
    """A check whose sample differs from recorded results of another kind of processor.

    Attributes:
        result: of the check, not yet decided.
        here: seed → the outcome on this machine.
        differences: seed → the first difference.
    """

    result: CheckResult
    here: dict[int, Outcome]
    differences: dict[int, str]

    @property
    def first_difference(self) -> str:
        seed, text = next(iter(self.differences.items()))
        return f"{seed}: {text} ({made_on(self.result.check, seed)})"

    @property
    def run_names(self) -> list[RunName]:
        """The runs that differ."""
        return [(self.result.check.variant, seed) for seed in self.differences]

    @property
    def batch(self) -> tuple[str, ...]:
        """Environments and parts: suspects with the same ones are compared with the same old code."""
        check = self.result.check
        return tuple([str(environment) for environment in check.roots.values()] + list(check.parts))


def not_checkable(check: Check, retrained: RetrainedRuns) -> str | None:
    """Why a check is not possible here, or None."""
    if check.batched:
        return "its runs were trained as batched seeds on a GPU, which a processor can't repeat"
    scores = read_results(check.variant).scores
    return objection(check, retrained.runs, scores.set_index("seed")["key"])


def compare_samples(checks: Sequence[Check], retrained: RetrainedRuns) -> Iterator[CheckResult]:
    """Compare the retrained samples with the recorded results, check by check.

    Args:
        checks: the checks.
        retrained: the retrained runs.

    Yields:
        The results. Those that need the old code are last.

    Raises:
        UserError: a recorded file is damaged.
    """
    with native_stderr_hidden():
        training.prepare()  # before the first operation of this process, which evaluates on one thread
    images, truth = read_images(paths.TEST)
    suspects: list[Suspect] = []
    for check in checks:
        result = CheckResult(check)
        if not read_results(check.variant).is_of(images, truth):
            reason = f"{paths.TEST} has other test images than the recorded results: run `dvc repro split`"
            result.unchecked = dict.fromkeys(check.parts, reason)
            yield result
        elif suspect := _compare(result, _evaluate(result, retrained, images, truth)):
            print(f"{check.variant}: seed {suspect.first_difference}", flush=True)
            suspects.append(suspect)
        else:
            yield result
    yield from _compare_with_old_code(suspects, retrained)


def _evaluate(
    result: CheckResult, retrained: RetrainedRuns, images: np.ndarray, truth: np.ndarray
) -> dict[int, Outcome]:
    """Evaluate the sample.

    Returns:
        Seed → outcome; empty if a run failed, with the reason in the result.
    """
    check, started = result.check, time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    for seed in check.seeds:
        facts = retrained.finished(retrained.runs[check.variant, seed])
        if facts is None:
            result.different = f"seed {seed} could not be trained (see the error above)"
            return {}
        folder = retrained.run_folder(check.variant, seed)
        run = evaluate_run(folder, check.recipe, seed, images, truth, check.here["evaluate"])[-1]
        outcomes[seed] = retrained_outcome(folder, run, facts["digests"]["model"])
        result.seconds += facts["seconds"]
    result.seconds += time.perf_counter() - started
    return outcomes


def _compare(result: CheckResult, here: dict[int, Outcome]) -> Suspect | None:
    """Compare the sample with the recorded results; a difference to another kind of processor makes it a suspect."""
    check = result.check
    differences = {seed: text for seed, run in here.items() if (text := difference(_recorded(check, seed), run))}
    certain = [seed for seed in differences if same_kind(check, seed)]
    if certain:
        result.different = f"seed {certain[0]}: {differences[certain[0]]}"
    elif differences:
        return Suspect(result, here, differences)
    elif here:
        result.same = list(check.parts)
    return None


def _compare_with_old_code(suspects: Sequence[Suspect], retrained: RetrainedRuns) -> Iterator[CheckResult]:
    """Compare suspects with runs of the old code on this machine; those of the same old code are one batch."""
    for key in dict.fromkeys(suspect.batch for suspect in suspects):
        batch = [suspect for suspect in suspects if suspect.batch == key]
        started = time.perf_counter()
        runs = _train_old_code(batch, retrained)
        seconds = (time.perf_counter() - started) / len(batch)
        for suspect in batch:
            suspect.result.seconds += seconds
            _compare_codes(suspect, runs, retrained)
            yield suspect.result


def _train_old_code(batch: Sequence[Suspect], retrained: RetrainedRuns) -> Mapping[RunName, OldRun | UserError]:
    """The runs of a batch by the old code, or the error that prevents them."""
    names = [name for suspect in batch for name in suspect.run_names]
    ordered = longest_first([retrained.runs[name] for name in names], retrained.images.shape)
    checks = [suspect.result.check for suspect in batch]
    try:
        return old.train(checks, {(run.variant, run.seed): run for run in ordered}, retrained.folder)
    except UserError as error:
        return dict.fromkeys(names, error)


def _compare_codes(suspect: Suspect, runs: Mapping[RunName, OldRun | UserError], retrained: RetrainedRuns) -> None:
    """Compare the sample of today's code with that of the old code; both were trained on this machine."""
    result, check = suspect.result, suspect.result.check
    old_runs: list[OldRun] = []
    for seed in suspect.differences:
        run = runs[check.variant, seed]
        if isinstance(run, UserError):
            result.different = f"seed {suspect.first_difference}; {run}"
            return
        if text := _difference_to_old(check, seed, run, suspect.here[seed], retrained):
            result.different = f"seed {seed}: {text}"
            return
        old_runs.append(run)
    result.how = OLD_CODE_HERE
    evaluated = all(run.evaluated for run in old_runs)
    for part in check.parts:
        if part == "train" or evaluated:
            result.same.append(part)
        else:
            result.unchecked[part] = (
                "its scores were made on another kind of processor, and no commit has both the code that trained and "
                "the code that evaluated it"
            )


def _recorded(check: Check, seed: int) -> Outcome:
    """The recorded outcome; without the digest of a model of another version of Keras, which is a part of its bytes."""
    row = check.rows[seed]
    keras = Environment.parse(row["environment"]).versions.get("keras")
    comparable = keras == check.here["train"].versions.get("keras")
    model = str(row["model"]) if comparable else NOT_RECORDED
    return recorded_outcome(check.variant, seed, check.recipe.curve, model)


def same_kind(check: Check, seed: int) -> bool:
    """Whether the recorded processor of a seed is of the same kind as this one."""
    processor = str(check.rows[seed]["processor"])
    return processor != NOT_RECORDED and kind(processor) == kind(environments.processor())


def made_on(check: Check, seed: int) -> str:
    """On which processor the recorded run of a seed was made, as text."""
    processor = check.rows[seed]["processor"]
    return "made on a processor that is not recorded" if processor == NOT_RECORDED else f"made on {processor}"


def _difference_to_old(check: Check, seed: int, run: OldRun, here: Outcome, retrained: RetrainedRuns) -> str | None:
    """The first difference between a run of today's code and that of the old code on this machine, or None."""
    same_keras = check.roots["train"].versions.get("keras") == check.here["train"].versions.get("keras")
    former = run.outcome if same_keras else replace(run.outcome, model=NOT_RECORDED)
    text = difference(former, here, "by the old code")
    if text is None and not same_keras:
        model = retrained.run_folder(check.variant, seed) / "model.keras"
        if not same_weights(run.folder / "model.keras", model):
            return "the weights of its model.keras differ from those by the old code"
    return text
