"""A study to which seeds are added: its runs, its results, and the number of seeds in params.yaml."""

import functools
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from many_seeds.errors import UserError
from many_seeds.growth import Question, Step
from stages.aggregate.runs import require_one_test
from stages.ledger import stage as ledger
from stages.recipes.shared import training
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.recipes.shared.recipe import Recipe
from stages.study import comparisons, dvc, params, paths, races
from stages.study.provenance import environments
from stages.study.provenance.identities import variant_identity
from stages.study.records.current import outdated
from stages.study.records.results import check_seeds, find_results, read_results
from stages.study.records.seen import record_seen
from stages.train.executors import sets_backend, slots
from stages.train.plan import environments_here
from tools import stale
from tools.settle.look import Look
from tools.settle.seeds import with_seeds
from tools.settle.steps import next_steps, seeds_of, select


class GrowingStudy:
    """A study to which seeds are added.

    Attributes:
        study: the parameters of the study, with the seeds that were added.
        pairs: the pairs of variants whose comparisons should get a verdict.
        races: the races that should end.
        variants: the variants of these comparisons and races.
        most: the maximum number of seeds of a variant.

    Raises:
        UserError: params.yaml is not valid, has the fixed design, or no comparison and no race, or its seeds can't be
            edited; or `pairs` names an unknown comparison or race.
    """

    def __init__(self, pairs: str | None, most: int) -> None:
        self._text = params.read()
        self.study = params.parse(self._text, str(params.PARAMS))
        if self.study.statistics.design == "fixed":
            raise UserError(
                f"statistics.design of {params.PARAMS} should be open to add seeds, received fixed: intervals of the "
                "fixed design hold for one number of seeds, chosen before any score was seen. The open design widens "
                "them for good"
            )
        self.pairs, self.races = select(self.study, pairs)
        self._named = pairs is not None
        compared = [*self.pairs, *(race.variants for race in self.races)]
        if not compared:
            raise UserError(
                f"{params.PARAMS} has no comparison and no race: name two variants in comparisons, chains or "
                "approaches, or several in races"
            )
        self.variants = list(dict.fromkeys(name for names in compared for name in names))
        self.most = min(most, self.study.split.seeds)
        self._check_editable()

    def _check_editable(self) -> None:
        """Raise the error of a params.yaml that can't be edited now rather than after hours of training."""
        seeds = {name: self.study.recipe(name).seeds for name in self.variants}
        with_seeds(self._text, {name: count + 1 for name, count in seeds.items() if count < self.most})

    def check_environment(self) -> None:
        """Check that runs of this machine belong to the recorded runs.

        Raises:
            UserError: they do not, or the results of a variant are damaged.
        """
        if objections := self.objections():
            raise UserError("no seed is added:\n" + "\n".join(objections))

    def objections(self) -> list[str]:
        """Why runs of this machine would not belong to the recorded runs: a line for each reason, and a remedy.

        Raises:
            UserError: the results of a variant are damaged.
        """
        recipes = self._recorded
        changes = {
            name: environments.changes_since(name, variant_identity(recipes[name], self.study), here)
            for name, here in environments_here(recipes).items()
        }
        lines = [f"{line}. {environments.INSTALL}" for line in environments.trained_elsewhere(changes)]
        wanted = self.left_out if self._named else self.incomplete(self.left_out)
        return [*lines, *(self.left_out[name] for name in wanted)]

    @functools.cached_property
    def _recorded(self) -> dict[str, Recipe]:
        """The recipes of the variants that are not outdated: the others are trained anew, in whatever environment."""
        others = outdated(self.study)
        return {name: self.study.recipe(name) for name in self.variants if name not in others}

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """The variants to which this machine should add no run, because of its processor → why.

        Raises:
            UserError: the results of a variant are damaged.
        """
        found = {
            name: environments.processor_objection(name, variant_identity(recipe, self.study), recipe)
            for name, recipe in self._recorded.items()
        }
        return {name: objection for name, objection in found.items() if objection}

    def not_trained_here(self, step: Step) -> list[str]:
        """The variants of the next runs of a step that are left out."""
        return [name for name in step.next_runs(seeds_of(self.study)) if name in self.left_out]

    def data_are_stale(self) -> bool:
        """Whether the images or the validation splits are not those of params.yaml."""
        stages = ("fetch", "split")
        return not stale.reasons(stale.status(self.study, stages=stages)).keys().isdisjoint(stages)

    def update_data(self) -> None:
        """Run the stages fetch and split if their outputs are missing or stale."""
        if not paths.TRAIN.exists() or self.data_are_stale():
            repro("split")

    def incomplete(self, variants: Iterable[str]) -> list[str]:
        """The variants of which a seed of params.yaml is not evaluated.

        Raises:
            UserError: the results of a variant are damaged.
        """

        def complete(name: str) -> bool:
            results = find_results(name)
            return results is not None and results.seeds == list(range(self.study.recipe(name).seeds))

        return [name for name in variants if not complete(name)]

    def outdated(self) -> list[str]:
        """The variants whose results are missing, or of other parameters or data."""
        names = {*self.incomplete(self.variants), *outdated(self.study)}
        return [name for name in self.variants if name in names]

    def finish_runs(self, variants: Sequence[str]) -> None:
        """Train and evaluate the missing runs of variants.

        Raises:
            UserError: a run fails, or a file is damaged.
        """
        from stages.evaluate.stage import evaluate  # imported here because a plan trains nothing

        self._train(variants)
        with native_stderr_hidden():
            training.prepare()  # before the evaluation: after it, TensorFlow ignores the number of threads of a run
        for variant in variants:
            evaluate(self.study, variant)

    def _train(self, variants: Sequence[str]) -> None:
        from stages.tracking.publisher import DELAY, Publisher
        from stages.train.stage import train

        if not sets_backend(self.study.recipe(name) for name in variants):
            train(self.study, variants, on_finish=Publisher(self.study, DELAY).publish)
            return
        for variant in variants:
            if subprocess.run([sys.executable, "-m", "stages.train", variant], check=False).returncode != 0:
                raise UserError(f"{variant} could not be trained, see above. Finished runs are kept")

    def enter_comparisons(self) -> None:
        """Enter comparisons that are new in the ledger, before scores of theirs are seen.

        Raises:
            UserError: the ledger is damaged, was edited, or has another confidence or design than the study.
        """
        ledger.update(self.study)

    def record_seen(self) -> None:
        """Record that the scores of the comparisons are about to be shown."""
        record_seen(self.study, {name: self.study.recipe(name).seeds for name in self.variants})

    def look(self) -> Look:
        """The results of the comparisons and the states of the races from the present scores.

        Raises:
            UserError: the results of a variant are missing or damaged, or the variants have different test sets.
        """
        found = {name: read_results(name) for name in self.variants}
        require_one_test(found)
        for name, runs in found.items():
            check_seeds(paths.scores_path(name), runs.seeds, range(self.study.recipe(name).seeds))
        wanted = [set(pair) for pair in self.pairs]
        named = [one for one in comparisons.named_comparisons(self.study) if set(one.pair) in wanted]
        rows = ledger.preview(self.study)
        return Look(
            comparisons.compare_named(found, named, self.study, rows),
            races.race_states(found, self.races, self.study, rows),
        )

    @property
    def at_once(self) -> int:
        """The number of runs that this machine trains at a time."""
        return max(slots(self.study.recipe(name)) for name in self.variants)

    def next_steps(self, questions: Iterable[Question], seconds: Mapping[str, float]) -> list[Step]:
        """The next steps of the undecided comparisons and open races, as `steps.next_steps` orders them."""
        shape = self.image_shape()
        return next_steps(questions, self.study, seconds, shape, most=self.most, at_once=self.at_once)

    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image, known from the results."""
        return read_results(self.variants[0]).hardest_images.shape[1:]

    def add_seeds(self, runs: Mapping[str, int]) -> None:
        """Add seeds to params.yaml, and change nothing else in it.

        Args:
            runs: variant → the number of seeds to add.

        Raises:
            UserError: the file was edited since it was read.
        """
        seeds = {name: self.study.recipe(name).seeds + count for name, count in runs.items()}
        text = with_seeds(self._text, seeds)
        self._check_unedited()  # right before the file is written, since the new text takes a moment
        params.write(text)
        self._text = text
        self.study = params.load()

    def _check_unedited(self) -> None:
        if params.read() != self._text:
            raise UserError(
                f"{params.PARAMS} was edited during this command. Finished runs are kept: run the same command again "
                "to continue with the edited file"
            )

    def record(self) -> None:
        """Record the new runs in dvc.lock and make the report; other stale stages stay as they are.

        Raises:
            UserError: params.yaml was edited since it was read, or `dvc repro` fails.
        """
        self._check_unedited()
        found = stale.reasons(stale.status(self.study, wait=True))
        stages = {name: [f"train@{name}", f"evaluate@{name}"] for name in self.variants}
        changed = [stage for pair in stages.values() if found.keys() & pair for stage in pair]
        incomplete = self.incomplete(self.study.variants)
        if changed or not incomplete:
            repro("--single-item", "code", "ledger", *changed, *([] if incomplete else ["aggregate"]))
        if incomplete:
            print(
                f"The report was not made: seeds of {params.PARAMS} are missing for {', '.join(incomplete)}. "
                "`STUDY_REUSE=1 dvc repro` trains them"
            )
        if others := found.keys() - {"code", "ledger", "aggregate", *changed}:
            print(f"Other stale stages, left as they are: {', '.join(sorted(others))}; `make stale` lists the reasons.")


def repro(*arguments: str) -> None:
    """Run `dvc repro`.

    Raises:
        UserError: it fails.
    """
    command = dvc.command("--wait-for-lock", "repro", "--quiet", *arguments)
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(
            f"`dvc repro {' '.join(arguments)}` failed. Finished runs are kept: fix the cause and run the same command "
            "again"
        )
