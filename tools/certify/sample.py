"""Select the runs to train again: a sample for each variant whose results were made in another environment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import environments, families
from stages.study.provenance.environments import PARTS, Environment, Part, canonical, select
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import find_results
from stages.train import executors
from stages.train.executors import batched_seeds
from stages.train.run import Run

COLUMNS: dict[Part, str] = {"train": "environment", "evaluate": "evaluation"}  # of environments.csv
Environments = dict[Part, Environment]  # one for training and one for evaluation


@dataclass(frozen=True)
class Check:
    """A sample of the runs of a variant that were made in the same two environments.

    Attributes:
        variant: the variant.
        identity: its identity, to which certificates belong.
        recipe: its recipe.
        here: the environments of today's code and the installed packages.
        roots: the environments of the runs, resolved by certificates.
        parts: the parts to check.
        stale: the parts for which `here` is not known to give the same bits.
        rows: seed → row of environments.csv, for all runs of these environments.
        counts: part → the number of runs of the variant with the same root.
        seeds: the sample.
        chain: the environments with which the recorded keys may have been made.
    """

    variant: str
    identity: str
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
        """Whether the runs were trained as batched seeds on a GPU, which a processor can't repeat."""
        return self.roots["train"].executor is not None


def select_checks(study: Params, variants: Sequence[str], number: int | None, *, everything: bool) -> list[Check]:
    """The checks of variants, the largest group of runs of each variant first.

    Args:
        study: the parameters of the study.
        variants: the variants to check.
        number: of seeds to draw for each variant and pair of recorded environments; None for all of them.
        everything: whether to check also parts that are known to give the same bits.

    Raises:
        UserError: a variant is unknown, or its results are damaged.
    """
    certificates = environments.read_certificates()
    recipes = {name: study.recipe(name) for name in variants}
    return [
        check
        for name, recipe in recipes.items()
        for check in _variant_checks(
            name, variant_identity(recipe, study), recipe, certificates, number, everything=everything
        )
    ]


def _variant_checks(
    variant: str, identity: str, recipe: Recipe, certificates: pd.DataFrame, number: int | None, *, everything: bool
) -> Iterator[Check]:
    results = find_results(variant)
    if results is None:
        return
    table = results.environments[results.environments["seed"] < recipe.seeds]
    roots = {part: _roots(identity, part, table[column], certificates) for part, column in COLUMNS.items()}
    here: Environments = {part: environments.installed(part, recipe.family) for part in PARTS}
    chain = _chain(identity, table, certificates)
    for root, group in _groups(table, roots):
        stale = _stale_parts(identity, recipe, here, root, certificates)
        if parts := PARTS if everything else stale:
            rows = {int(row["seed"]): row for row in group.astype(object).to_dict("records")}
            counts = {part: int((roots[part] == str(root[part])).sum()) for part in PARTS}
            seeds = draw(variant, here, root, list(rows), number)
            yield Check(variant, identity, recipe, here, root, parts, stale, rows, counts, seeds, chain)


def _groups(table: pd.DataFrame, roots: dict[Part, pd.Series]) -> list[tuple[Environments, pd.DataFrame]]:
    """The rows of environments.csv by their roots, the largest group first."""
    groups = table.groupby([roots["train"], roots["evaluate"]], sort=False)
    ordered = sorted(groups, key=lambda item: (-len(item[1]), item[0]))
    return [
        ({"train": Environment.parse(train), "evaluate": Environment.parse(evaluate)}, group)
        for (train, evaluate), group in ordered
    ]


def _chain(identity: str, table: pd.DataFrame, certificates: pd.DataFrame) -> tuple[Environment, ...]:
    """The environments of training in the variant's results and certificates."""
    rows = select(certificates, identity, "train")
    texts = {*table["environment"], *rows["environment"], *rows["same_as"]}
    return tuple(map(Environment.parse, sorted(texts)))


def _roots(identity: str, part: Part, column: pd.Series, certificates: pd.DataFrame) -> pd.Series:
    found = {text: str(canonical(identity, part, Environment.parse(text), certificates)) for text in column.unique()}
    return column.map(found)


def _stale_parts(
    identity: str, recipe: Recipe, here: Environments, roots: Environments, certificates: pd.DataFrame
) -> tuple[Part, ...]:
    """The parts for which today's environment is not known to give the bits of the roots."""
    today = dict(here)
    if roots["train"].executor is not None:
        today["train"] = _batched(recipe)
    return tuple(part for part in PARTS if canonical(identity, part, today[part], certificates) != roots[part])


def _batched(recipe: Recipe) -> Environment:
    """Today's environment of batched seeds, with the locked packages if JAX is not installed."""
    try:
        versions = environments.installed_versions("jax")
    except UserError:
        versions = environments.locked_versions(keras_backend="jax")
    return Environment(families.code_digest(recipe.family), versions, executors.code_digest(batched_seeds.NAME))


def draw(
    variant: str, here: Environments, roots: Environments, seeds: Sequence[int], number: int | None
) -> tuple[int, ...]:
    """Draw a sample by a digest, so that the same environments always draw the same seeds.

    Args:
        variant: the variant.
        here: the environments to certify.
        roots: the environments that made the runs.
        seeds: of the runs.
        number: of seeds to draw; None for all.

    Returns:
        The sample, sorted. A larger sample contains the smaller one.
    """
    texts = [variant, *(str(environment) for each in (here, roots) for environment in each.values())]
    order = sorted(seeds, key=lambda seed: files.digest(*texts, str(seed)))
    return tuple(sorted(order[:number]))


def own_key(run: Run) -> Run:
    """The run with the key of the environment that trains it, without certificates."""
    return replace(run, same_as=None)


def objection(check: Check, runs: Mapping[tuple[str, int], Run], keys: pd.Series) -> str | None:
    """Why the recorded runs do not belong to params.yaml and the images, or None.

    Args:
        check: the check.
        runs: variant and seed → run of the study.
        keys: seed → key in test.csv.
    """
    for seed in check.seeds:
        run = runs[check.variant, seed]
        if keys.get(seed) not in {replace(run, same_as=environment).key for environment in check.chain}:
            return (
                f"seed {seed} should have the key of params.yaml, the images in {paths.TRAIN.parent} and its recorded "
                "environment, received another one: it is a run of other parameters or data, see `make stale`"
            )
    return None
