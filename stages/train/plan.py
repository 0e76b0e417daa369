"""The runs of a study: all runs, the finished ones, and the order in which they start."""

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import families
from stages.study.provenance.environments import Environment, canonical, installed_versions, read_certificates
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import find_results
from stages.study.records.splits import read_validation
from stages.train import executors
from stages.train.executors import batched_seeds
from stages.train.run import Run

FILES = ("model.keras", "curves.csv", "run.json")  # of a run


def environment_here(recipe: Recipe) -> Environment:
    """The environment in which this machine trains the runs of a recipe."""
    [environment] = environments_here({recipe.family: recipe}).values()
    return environment


def environments_here(recipes: Mapping[str, Recipe]) -> dict[str, Environment]:
    """The environments in which this machine trains the runs of recipes, by their names.

    Args:
        recipes: name → recipe, such as the variants of a study.
    """

    @functools.cache  # the code and the packages are looked up once for all variants of a family
    def environment(family: str, executor: str) -> Environment:
        versions = installed_versions("jax" if executor == batched_seeds.NAME else backend())
        return Environment(families.code_digest(family), versions, executors.code_digest(executor))

    return {name: environment(recipe.family, executors.name_for(recipe)) for name, recipe in recipes.items()}


def plan(study: Params, variants: Sequence[str], images: np.ndarray, labels: np.ndarray, classes: int) -> list[Run]:
    """Every run of some variants, sorted by variant and seed.

    Args:
        study: the content of params.yaml.
        variants: names of variants.
        images: uint8 [n, height, width] or [n, height, width, 3], all training images.
        labels: uint8 or uint16 [n].
        classes: the number of classes.

    Raises:
        UserError: a variant is unknown, a validation split is missing, or a package is not installed.
    """
    data, runs, certificates = files.digest(images, labels), [], read_certificates()
    for variant in variants:
        recipe = study.recipe(variant)
        executor, environment = executors.name_for(recipe), environment_here(recipe)
        root = canonical(variant_identity(recipe, study), "train", environment, certificates)
        shared = {"data": data, **environment.digests}
        for seed in range(recipe.seeds):
            validation = read_validation(seed) if recipe.uses_validation else None
            digests = shared if validation is None else {**shared, "dev": files.digest(validation)}
            runs.append(Run(variant, recipe, seed, classes, validation, executor, digests, environment.versions, root))
    return runs


def finished(run: Run, models: Path = paths.MODELS) -> dict[str, Any] | None:
    """The content of run.json if the run is finished and its files are undamaged; otherwise None.

    Args:
        run: the run.
        models: the folder of all models.
    """
    folder = paths.run_path(run.variant, run.seed, models)
    try:
        return undamaged_facts(run, {name: (folder / name).read_bytes() for name in FILES})
    except (FileNotFoundError, NotADirectoryError):
        return None


def undamaged_facts(run: Run, contents: Mapping[str, bytes]) -> dict[str, Any] | None:
    """The content of run.json if these are the files of the run, and undamaged; otherwise None.

    Args:
        run: the run.
        contents: the content of each file in `FILES`.
    """
    try:
        facts = json.loads(contents["run.json"])
        valid = facts["key"] == run.key and facts["digests"]["model"] == files.digest(contents["model.keras"])
        curve = contents["curves.csv"]
        # A truncated curve is not the same after it was parsed and written again.
        valid = valid and files.csv_bytes(pd.read_csv(io.BytesIO(curve))) == curve
    except (KeyError, TypeError, ValueError):
        return None
    return facts if valid else None


def evaluated_keys(variants: Iterable[str]) -> set[str]:
    """The keys of the runs that were evaluated, with or without their models.

    Raises:
        UserError: the results of a variant are damaged. They may be restored with git, so they are not trained again.
    """
    found = (find_results(variant) for variant in variants)
    return {key for results in found if results is not None for key in results.keys}


def longest_first(runs: Sequence[Run], shape: tuple[int, ...]) -> list[Run]:
    """The runs sorted by their estimated cost on images of `shape`, the most expensive first."""
    return sorted(runs, key=lambda run: -run.recipe.cost(shape))
