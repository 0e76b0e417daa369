"""Which runs to train anew: those of variants whose results were made with another environment than is here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import environments, families, files, paths
from stages.study.environments import PARTS, Environment, Part, canonical
from stages.study.params import Params
from stages.study.results import find_results
from stages.train import executors
from stages.train.executors import batched_seeds
from stages.train.run import Run

COLUMNS: dict[Part, str] = {"train": "environment", "evaluate": "evaluation"}  # of environments.csv
Environments = dict[Part, Environment]  # one for training and one for evaluation


@dataclass(frozen=True)
class Check:
    """Some runs of a variant that the same two environments made, and those of them to train anew.

    Attributes:
        variant: the variant.
        recipe: its recipe.
        here: today's code and the installed packages.
        roots: the environments that made the runs, or that are certified as theirs.
        parts: those to check.
        stale: those of which `here` is not yet known to make the same bits.
        rows: of environments.csv, by seed: all runs that these environments made.
        counts: how many runs of the variant have the same root, for each part.
        seeds: the sample.
        chain: environments that the recorded keys may be made with.
    """

    variant: str
    recipe: Recipe
    here: Environments
    roots: Environments
    parts: tuple[Part, ...]
    stale: tuple[Part, ...]
    rows: dict[int, dict[str, Any]]
    counts: dict[Part, int]
    seeds: tuple[int, ...]
    chain: tuple[Environment, ...]

    @property
    def batched(self) -> bool:
        """Whether the runs were trained as batched seeds on a GPU, which no processor can repeat."""
        return self.roots["train"].executor is not None


def checks(study: Params, variants: Sequence[str], wanted: int | None, everything: bool) -> list[Check]:
    """What is to be checked, variant by variant, the largest group of runs of each first.

    Args:
        study: the study.
        variants: the variants to look at.
        wanted: how many seeds to draw for each variant and pair of recorded environments; None for all of them.
        everything: whether to check also what is known to be the same.

    Raises:
        UserError: a variant is unknown, or its results are damaged.
    """
    certificates = environments.read_certificates()
    return [check for name in variants for check in _checks(name, study.recipe(name), certificates, wanted, everything)]


def _checks(
    variant: str, recipe: Recipe, certificates: pd.DataFrame, wanted: int | None, everything: bool
) -> Iterator[Check]:
    results = find_results(variant)
    if results is None:
        return
    table = results.environments[results.environments["seed"] < recipe.seeds]
    roots = {part: _roots(variant, part, table[column], certificates) for part, column in COLUMNS.items()}
    here: Environments = {part: environments.installed(part, recipe.family) for part in PARTS}
    own = certificates[(certificates["variant"] == variant) & (certificates["part"] == "train")]
    chain = {*table["environment"], *own["environment"], *own["same_as"]}
    groups = table.groupby([roots["train"], roots["evaluate"]], sort=False)
    for (train, evaluate), group in sorted(groups, key=lambda item: (-len(item[1]), item[0])):
        root: Environments = {"train": Environment.parse(train), "evaluate": Environment.parse(evaluate)}
        stale = tuple(part for part in PARTS if not _same(variant, part, recipe, here, root, certificates))
        if parts := PARTS if everything else stale:
            rows = {int(row["seed"]): row for row in group.astype(object).to_dict("records")}
            counts = {part: int((roots[part] == str(root[part])).sum()) for part in PARTS}
            seeds = draw(variant, here, root, list(rows), wanted)
            parsed = tuple(map(Environment.parse, sorted(chain)))
            yield Check(variant, recipe, here, root, parts, stale, rows, counts, seeds, parsed)


def _roots(variant: str, part: Part, column: pd.Series, certificates: pd.DataFrame) -> pd.Series:
    found = {text: str(canonical(variant, part, Environment.parse(text), certificates)) for text in column.unique()}
    return column.map(found)


def _same(
    variant: str, part: Part, recipe: Recipe, here: Environments, roots: Environments, certificates: pd.DataFrame
) -> bool:
    environment = here[part]
    if part == "train" and roots[part].executor is not None:
        environment = _batched(recipe)
    return canonical(variant, part, environment, certificates) == roots[part]


def _batched(recipe: Recipe) -> Environment:
    """Today's environment of batched seeds, with the locked packages where JAX is not installed."""
    try:
        versions = environments.installed_versions("jax")
    except UserError:
        versions = environments.locked_versions(keras_backend="jax")
    return Environment(families.code_digest(recipe.family), versions, executors.code_digest(batched_seeds.NAME))


def draw(
    variant: str, here: Environments, roots: Environments, seeds: Sequence[int], wanted: int | None
) -> tuple[int, ...]:
    """The sample, sorted: by a digest, so that the same environments always draw the same seeds.

    Args:
        variant: the variant.
        here: the environments to certify.
        roots: the environments that made the runs.
        seeds: of the runs.
        wanted: how many; None for all.
    """
    texts = [variant, *(str(environment) for each in (here, roots) for environment in each.values())]
    order = sorted(seeds, key=lambda seed: files.digest(*texts, str(seed)))
    return tuple(sorted(order[:wanted]))


def as_here(run: Run) -> Run:
    """The same run with the key of the environment that trains it, whatever that is certified as."""
    return replace(run, same_as=None)


def objection(check: Check, runs: Mapping[tuple[str, int], Run], keys: pd.Series) -> str | None:
    """Why the check's recorded runs are no runs of params.yaml and of the images that are here, or None.

    Args:
        check: the check.
        runs: the study's runs, by variant and seed.
        keys: of test.csv, by seed.
    """
    for seed in check.seeds:
        run = runs[check.variant, seed]
        if keys.get(seed) not in {replace(run, same_as=environment).key for environment in check.chain}:
            return (
                f"seed {seed} is recorded with another key than params.yaml, the images in {paths.TRAIN.parent} and "
                f"the recorded environment make: it is a run of other parameters or data, which `make stale` names"
            )
    return None
