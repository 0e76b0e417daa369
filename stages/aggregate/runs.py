"""The results of all variants of a study."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from many_seeds.errors import UserError
from stages.study import paths
from stages.study.params import Params
from stages.study.records.results import VariantResults, check_seeds, read_curves, read_results


@dataclass(frozen=True)
class VariantRuns(VariantResults):
    """All runs of one variant, in the order of its seeds.

    Attributes:
        curves: curves.csv.
        probabilities: whether outputs are probabilities.
    """

    curves: pd.DataFrame
    probabilities: bool


Runs = dict[str, VariantRuns]


def shared_seeds(variants: Iterable[VariantRuns]) -> int:
    """The number of seeds that all of the variants have."""
    return min(len(variant.seeds) for variant in variants)


def metric_names(runs: Runs) -> list[str]:
    """The columns of test.csv that are scores on the test set, accuracy and loss first."""
    named = dict.fromkeys(["test_accuracy", "test_loss"])
    return list(named | dict.fromkeys(name for of in runs.values() for name in of.scores.filter(regex="^test_")))


def read_runs(study: Params, variants: Iterable[str] | None = None) -> Runs:
    """The runs of these variants, by default of all variants in params.yaml.

    Raises:
        UserError: a variant or a seed is missing, or the files of a variant do not belong together.
    """
    runs = {variant: _read_variant(variant, study) for variant in variants or study.variants}
    require_one_test(runs)
    return runs


def require_one_test(runs: Mapping[str, VariantResults]) -> None:
    """Raise a UserError where variants were evaluated on different test images."""
    for (a, of_a), (b, of_b) in itertools.combinations(runs.items(), 2):
        if not of_a.same_test_set(of_b):
            raise UserError(f"{a} and {b} were evaluated on different test sets: run `dvc repro`")


def _read_variant(variant: str, study: Params) -> VariantRuns:
    recipe = study.recipe(variant)
    results = read_results(variant)
    check_seeds(paths.scores_path(variant), results.seeds, range(recipe.seeds))
    curves = read_curves(variant, recipe.curve, results.seeds)
    return VariantRuns(**vars(results), curves=curves, probabilities=recipe.probabilities)
