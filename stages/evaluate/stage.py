"""The evaluation of a variant: every seed's model on the test set. No later stage reads the test images."""

import sys
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.evaluate import scores
from stages.evaluate.ensemble import Ensemble, ensemble
from stages.evaluate.previous import PreviousEvaluation
from stages.evaluate.run import EvaluatedRun, evaluate_run
from stages.recipes.shared.recipe import Recipe
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import environments, families
from stages.study.provenance.environments import Environment
from stages.study.provenance.identities import variant_identity
from stages.study.records.models import read_facts
from stages.study.records.results import (
    CALIBRATION_COLUMNS,
    DIVERGED,
    ENVIRONMENT_COLUMNS,
    VariantResults,
    diverged_sentence,
    write_results,
)
from stages.study.records.splits import read_classes, read_groups, read_images

HARDEST = 60  # images of which the pixels are kept: enough to have those that are hard for all variants
INDEXED = 2**16  # the first images, among which these are chosen: `scores.hardest` returns indices as uint16


def evaluate(study: Params, variant: str) -> None:
    """Evaluate the seeds of a variant, and keep the previous evaluation of runs that are still the same."""
    images, truth = read_images(paths.TEST)
    recipe = study.recipe(variant)
    identity = variant_identity(recipe, study)
    check_models(variant, identity, recipe)
    evaluation = environments.installed("evaluate", recipe.family)
    previous = PreviousEvaluation(variant, identity, images, truth, evaluation)
    weights = previous.results.weights if previous.results else None
    runs: list[EvaluatedRun] = []
    evaluated: list[int] = []
    outputs: dict[int, np.ndarray] = {}
    for seed in range(recipe.seeds):
        run = previous.reusable(seed)
        if run is None:
            folder = paths.run_path(variant, seed)
            model, outputs[seed], run = evaluate_run(folder, recipe, seed, images, truth, evaluation)
            evaluated.append(seed)
            if seed == 0:
                weights = None if DIVERGED in run.row else recipe.class_images(model)
        runs.append(run)
    if len({run.row["data"] for run in runs}) > 1:
        raise UserError(f"the runs of {variant} are of different training images: run `dvc repro -s train@{variant}`")

    def unchanged(seed: int) -> bool:
        before = previous.run(seed)
        return before is not None and before.same_result(runs[seed])

    def predict(seed: int) -> np.ndarray:
        return evaluate_run(paths.run_path(variant, seed), recipe, seed, images, truth, evaluation)[1]

    voting = ensemble(recipe.seeds, outputs, previous.results, unchanged, predict)
    results = gather(variant, runs, images, truth, voting, weights)
    write_results(results)
    diverged = any(DIVERGED in run.row and run.row["seed"] in evaluated for run in runs)
    for warning in (diverged_sentence(results) if diverged else "", one_class_warning(results, evaluated)):
        if warning:
            print(f"warning: {warning}", file=sys.stderr, flush=True)


def one_class_warning(results: VariantResults, seeds: Collection[int]) -> str:
    """A sentence about those of `seeds` whose models predict one class only; empty if there is none."""
    rows = np.flatnonzero(results.predicts_one_class)
    named = {seed: results.classes[results.predicted[row, 0]] for row in rows if (seed := results.seeds[row]) in seeds}
    if not named:
        return ""
    which = f"seed{'' if len(named) == 1 else 's'} {', '.join(map(str, named))}"
    classes = " or ".join(dict.fromkeys(named.values()))
    return f"{results.variant} predicts one class only, {classes} for every test image, with {which}"


def gather(
    variant: str,
    runs: Sequence[EvaluatedRun],
    images: np.ndarray,
    truth: np.ndarray,
    voting: Ensemble,
    weights: np.ndarray | None,
) -> VariantResults:
    """The results of a variant.

    Args:
        variant: its name.
        runs: of its seeds, in their order.
        images: of the test set, uint8 [n, height, width] or [n, height, width, 3].
        truth: their labels [n].
        voting: the ensemble of the first seeds.
        weights: of the first seed, [classes, height, width], where the model is linear in the pixels.
    """
    predicted = np.stack([run.labels for run in runs])
    hardest = scores.hardest(predicted[:, :INDEXED], truth[:INDEXED], HARDEST)
    return VariantResults(
        variant=variant,
        scores=pd.DataFrame([run.row for run in runs]),
        predicted=predicted,
        truth=truth,
        groups=read_groups(paths.TEST),
        image_digest=files.digest(images),
        environments=pd.DataFrame([run.environment for run in runs], columns=ENVIRONMENT_COLUMNS),
        calibration=pd.concat([run.calibration for run in runs]).reindex(columns=CALIBRATION_COLUMNS),
        classes=read_classes(paths.TEST),
        ensemble=voting.labels,
        members=voting.members,
        output_sum=voting.output_sum,
        hardest=hardest,
        hardest_images=images[hardest],
        weights=weights,
    )


def check_models(variant: str, identity: str, recipe: Recipe) -> None:
    """Refuse models of an earlier recipe or of other code, of which DVC only knows that it has not recorded them.

    Args:
        variant: its name.
        identity: as in `environments.canonical`.
        recipe: its recipe.

    Raises:
        UserError: a run.json is damaged, or its model is of another recipe or of other code.
    """
    certificates = environments.read_certificates()

    def code_of(environment: Environment) -> str:
        return environments.canonical(identity, "train", environment, certificates).code

    # Batched seeds on a GPU are in no certificate: their code is today's own.
    codes = {families.code_digest(recipe.family), code_of(environments.installed("train", recipe.family))}
    for folder in (paths.run_path(variant, seed) for seed in range(recipe.seeds)):
        if folder.exists():
            facts = read_facts(folder)
            same_recipe = facts.get("variant") == variant
            same_recipe = same_recipe and families.key_fields(facts.get("parameters")) == recipe.key_fields()
            if not same_recipe or code_of(environments.of_run(facts)) not in codes:
                raise UserError(
                    f"{folder} holds a model of another recipe, or of other code, than the study has now, whose score "
                    f"would be a wrong one: `dvc repro -s train@{variant}` trains what params.yaml asks for; if it was "
                    "trained elsewhere, `dvc checkout` or `dvc pull` bring it"
                )
