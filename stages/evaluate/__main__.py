"""Evaluate stage: every seed's model of one variant on the test set. The only reader of the test images."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds import console
from many_seeds.errors import UserError
from stages.evaluate import scores
from stages.evaluate.former import Evaluated, Former
from stages.evaluate.outputs import labels_of, predict
from stages.study import environments, families, files, params, records
from stages.study.environments import Environment

HARDEST = 60  # images of which the pixels are kept: enough to have those that are hard for all variants
VOTERS = 10  # the first seeds, whose mean output is the variant's vote: a number that later seeds don't change


def evaluate(variant: str, recipe: params.Recipe) -> None:
    """Evaluate the seeds of a variant, and keep what was evaluated before of runs that are still the same."""
    images, truth = records.read_images(records.TEST)
    check_models(variant, recipe)
    evaluation = environments.installed("evaluate", recipe.family)
    former, voters = Former(variant, truth, evaluation), min(VOTERS, recipe.seeds)

    def evaluate_seed(seed: int) -> tuple[Any, np.ndarray, Evaluated]:
        return evaluate_run(records.run_path(variant, seed), recipe, seed, images, truth, evaluation)

    for seed in filter(former.may_have, range(recipe.seeds)):
        former.confirm(seed, evaluate_seed(seed)[-1])
    voted = voted_before(former, voters)
    outputs: Any = former.outputs if voted else 0
    runs, class_images = [], former.class_images
    for seed in range(recipe.seeds):
        if (seed < voted or seed >= voters) and former.has(seed):
            runs.append(former.run(seed))
            continue
        model, output, run = evaluate_seed(seed)
        runs.append(run)
        if seed < voters:
            outputs = outputs + output
        if seed == 0:
            class_images = recipe.class_images(model)
    if len({run.row["data"] for run in runs}) > 1:
        raise UserError(f"the runs of {variant} are of different training images: run `dvc repro -s train@{variant}`")
    extra = {"ensemble": former.vote if voted == voters else labels_of(outputs / voters), "voters": np.array(voters)}
    extra |= {"outputs": outputs} if voters < VOTERS else {}
    extra |= {} if class_images is None else {"weights": class_images}
    write(variant, runs, images, truth, extra)


def evaluate_run(
    folder: Path,
    recipe: params.Recipe,
    seed: int,
    images: np.ndarray,
    truth: np.ndarray,
    evaluation: Environment,
) -> tuple[Any, np.ndarray, Evaluated]:
    """Evaluate one run on the test set.

    Args:
        folder: of the run, with model.keras and run.json.
        recipe: that it was trained by.
        seed: that it was trained with.
        images: uint8 [n, height, width] or [n, height, width, 3], of the test set.
        truth: their labels [n].
        evaluation: the environment that evaluates.

    Returns:
        The model, its outputs [n, classes], and what was evaluated.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    facts = records.read_facts(folder)
    model = records.read_model(folder, facts)
    output = predict(model, images)
    return model, output, evaluated(recipe, seed, facts, output, truth, evaluation)


def check_models(variant: str, recipe: params.Recipe) -> None:
    """Refuse models that lie here from another time, of which DVC only knows that they are not those it has recorded.

    Raises:
        UserError: a run.json is damaged, or says that its model is of another recipe or of other code.
    """
    certificates = environments.read_certificates()

    def code_of(environment: Environment) -> str:
        return environments.canonical(variant, "train", environment, certificates).code

    # Batched seeds on a GPU are in no certificate: their code is today's own.
    codes = {families.code_digest(recipe.family), code_of(environments.installed("train", recipe.family))}
    for path in (records.run_path(variant, seed) for seed in range(recipe.seeds)):
        if path.exists():
            facts = records.read_facts(path)
            of_recipe = facts.get("variant") == variant
            of_recipe = of_recipe and families.key_fields(facts.get("parameters")) == recipe.key_fields()
            if not of_recipe or code_of(environments.of_run(facts)) not in codes:
                raise UserError(
                    f"{path} holds a model of another recipe, or of other code, than the study has now, whose score "
                    f"would be a wrong one: `dvc repro -s train@{variant}` trains what is asked for; where somebody "
                    "has, `dvc checkout` or `dvc pull` bring it"
                )


def voted_before(former: Former, voters: int) -> int:
    """How many of the voters have a vote that can stay; 0 where the outputs of all of them are needed."""
    complete = all(former.has(seed) for seed in range(former.voters))
    joinable = former.voters < voters and former.outputs is not None
    return former.voters if complete and (former.voters == voters or joinable) else 0


def evaluated(
    recipe: params.Recipe,
    seed: int,
    facts: dict[str, Any],
    output: np.ndarray,
    truth: np.ndarray,
    evaluation: Environment,
) -> Evaluated:
    row = {"seed": seed, "key": facts["key"], "data": facts["digests"]["data"]}
    row |= {name: metric(output, truth) for name, metric in scores.metrics(recipe.probabilities).items()}
    row |= {name: facts[name] for name in recipe.facts}
    no_bins = pd.DataFrame(columns=records.CALIBRATION_COLUMNS[1:])
    bins = scores.calibration(output, truth) if recipe.probabilities else no_bins
    bins.insert(0, "seed", seed)
    made_by = {
        "seed": seed,
        "environment": str(environments.of_run(facts)),
        "evaluation": str(evaluation),
        "model": facts["digests"]["model"],
        "processor": facts.get("processor", records.NOT_RECORDED),
    }
    return Evaluated(row, labels_of(output), bins, made_by)


def write(
    variant: str,
    runs: list[Evaluated],
    images: np.ndarray,
    truth: np.ndarray,
    extra: dict[str, np.ndarray],
) -> None:
    labels = np.stack([run.labels for run in runs])
    indices = scores.hardest(labels, truth, HARDEST)
    files.write_arrays(
        records.predictions_path(variant),
        compressed=True,
        labels=labels,
        truth=truth,
        classes=np.array(records.read_classes(records.TEST)),
        hardest=indices,
        hardest_images=images[indices],
        **extra,
    )
    bins = pd.concat([run.calibration for run in runs]).reindex(columns=records.CALIBRATION_COLUMNS)
    files.write_table(records.calibration_path(variant), bins)
    made_by = pd.DataFrame([run.made_by for run in runs], columns=records.ENVIRONMENT_COLUMNS)
    files.write_table(records.environments_path(variant), made_by)
    files.write_table(records.scores_path(variant), pd.DataFrame([run.row for run in runs]))


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("variant", help="a variant in params.yaml")
    variant = parser.parse_args().variant
    recipe = params.load().recipe(variant)
    # One thread: the number of threads decides the last bits of a loss. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    evaluate(variant, recipe)


if __name__ == "__main__":
    main()
