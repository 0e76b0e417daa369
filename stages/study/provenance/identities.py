"""What variants and comparisons are, as digests: recipes, data and split, without names and numbers of seeds."""

import json
from collections.abc import Mapping
from typing import Any

from many_seeds.ledger import pair_identity
from stages.recipes.shared.recipe import Recipe
from stages.study import files
from stages.study.params import Params
from stages.study.scores import ACCURACY


def variant_identity(recipe: Recipe, study: Params) -> str:
    """A digest of what decides the runs of a variant in params.yaml, except the seeds.

    Args:
        recipe: the variant's recipe.
        study: the parameters of the study, of which data and split count.
    """
    return recipe_identity(recipe, study.data.model_dump(exclude_unset=True), study.split.dev_fraction)


def recipe_identity(recipe: Recipe, data: Mapping[str, Any], dev_fraction: float) -> str:
    """The same for the section `data` and the fraction of the validation split of any params.yaml."""
    decisive = {name: value for name, value in data.items() if name != "allow_duplicates"}
    parts = [recipe.family, recipe.key_fields(), decisive, dev_fraction]
    return files.digest(json.dumps(parts, sort_keys=True, allow_nan=False))


def comparison_identity(a: str, b: str, study: Params, score: str = ACCURACY) -> str:
    """The same for the names of two variants of a study.

    Raises:
        UserError: the study has no such variant.
    """
    return pair_identity(variant_identity(study.recipe(a), study), variant_identity(study.recipe(b), study), score)
