"""One side of the comparison: parameters and results of a commit, or of the working tree."""

import functools
import io
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import files, params, paths
from stages.study.params import PARAMS
from stages.study.provenance import families
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.provenance.identities import recipe_identity
from stages.study.records.results import EvaluatedRuns, Load, find_evaluated_runs, load_file
from tools.compare.revisions import find_commit, reader

WORKING_TREE = "the working tree"


@dataclass(frozen=True)
class Parameters:
    """The part of params.yaml that a comparison needs: another version of this code may have other keys.

    Attributes:
        data: the section `data`.
        dev_fraction: the fraction of the training images in the validation split.
        recipes: variant → the fields of its recipe.
        statistics: the fields of statistics.
    """

    data: dict[str, Any]
    dev_fraction: float
    recipes: dict[str, dict[str, Any]]
    statistics: dict[str, Any]

    def recipe(self, variant: str) -> Recipe | None:
        """The recipe without its number of seeds; None if this version of the code can't read it."""
        return self._readable[variant]

    @functools.cached_property
    def _readable(self) -> dict[str, Recipe | None]:
        return {variant: _recipe({**fields, "seeds": 1}) for variant, fields in self.recipes.items()}

    @property
    def data_name(self) -> str:
        return str(self.data["name"])

    def identity(self, variant: str) -> str | None:
        """The identity of a variant, to which certificates belong; None if this version of the code can't read it."""
        recipe = self.recipe(variant)
        return None if recipe is None else recipe_identity(recipe, self.data, self.dev_fraction)

    def seeds(self, variant: str) -> int:
        """The number of seeds of a variant; 0 if it is not given, as in other versions of this code."""
        return int(self.recipes.get(variant, {}).get("seeds", 0))


def _recipe(fields: dict[str, Any]) -> Recipe | None:
    try:
        return families.recipe_class(fields.get("family")).model_validate(fields)
    except (UserError, ValidationError):
        return None


@dataclass(frozen=True)
class Side:
    """Parameters and results of a commit, or of the working tree.

    Attributes:
        label: its name in texts.
        commit: the full name of the commit; None for the working tree.
        params: its parameters.
        runs: variant → evaluated runs.
        certificates: metrics/certified.csv; without rows if the file does not exist.
    """

    label: str
    commit: str | None
    params: Parameters
    runs: dict[str, EvaluatedRuns]
    certificates: pd.DataFrame


def read_side(revision: str | None) -> Side:
    """Read a commit, or the working tree.

    Args:
        revision: a commit, branch, tag or DVC experiment; None for the working tree.

    Raises:
        UserError: the revision is unknown, has no results that this code can read, or is the working tree with a
            params.yaml that is not valid.
    """
    if revision is None:
        side = _read(WORKING_TREE, None, load_file)
        params.load()  # a key of the working tree that this code can't read would hide a change
        return side
    commit = find_commit(revision)
    label = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
    return _read(label, commit, reader(commit, [PARAMS, CERTIFIED, paths.RUNS]))


def _read(label: str, commit: str | None, read: Load) -> Side:
    text = read(PARAMS)
    if text is None:
        raise UserError(f"{label} has no {PARAMS} here: run this command in the top folder of the study")
    parameters = _read_parameters(text.decode(errors="replace"), f"{PARAMS} in {label}")
    try:
        found = {name: find_evaluated_runs(name, read, f" in {label}") for name in parameters.recipes}
    except UserError as error:
        hint = "" if commit is None else f". {label} may have results in the format of another version of this study"
        raise UserError(f"{error}{hint}") from error
    runs = {name: variant for name, variant in found.items() if variant is not None}
    if not runs:
        raise UserError(
            f"{label} has no results: expected {paths.scores_path('<variant>')} for the variants of its {PARAMS}, "
            "found none"
        )
    return Side(label, commit, parameters, runs, _read_certificates(label, read))


def _read_parameters(text: str, source: str) -> Parameters:
    """Parse params.yaml.

    Raises:
        UserError: a part is missing, or a number of seeds is not valid; `source` names the file.
    """
    try:
        study = files.yaml_values(text, source)
        parameters = Parameters(
            data={**study["data"], "name": str(study["data"]["name"])},
            dev_fraction=float(study["split"]["dev_fraction"]),
            recipes={str(name): dict(recipe) for name, recipe in study["variants"].items()},
            statistics=dict(study["statistics"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source} should have data.name, split.dev_fraction, variants and statistics, received something else: "
            f"{error!r}"
        ) from error
    for name, recipe in parameters.recipes.items():
        _check_seeds(recipe.get("seeds", 1), f"variants.{name}.seeds of {source}")
    return parameters


def _check_seeds(seeds: Any, key: str) -> None:
    if type(seeds) is not int or not 0 < seeds <= params.MOST_SEEDS:
        raise UserError(f"{key} should be a whole number from 1 to {params.MOST_SEEDS:,}, received {seeds!r}")


def _read_certificates(label: str, read: Load) -> pd.DataFrame:
    """The certificates as text; without rows if the file does not exist.

    Those of commits before certificates named recipe and data count for no variant.

    Raises:
        UserError: the file is damaged.
    """
    content = read(CERTIFIED)
    if content is None:
        return pd.DataFrame(columns=CERTIFIED_COLUMNS)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        return (table if "identity" in table else table.assign(identity=""))[CERTIFIED_COLUMNS]
    except (KeyError, ValueError) as error:  # pandas raises ValueError for a file that is not CSV
        raise UserError(
            f"{CERTIFIED} in {label} should be a CSV file with the columns {', '.join(CERTIFIED_COLUMNS)}, received "
            f"something else ({error}): restore it with git"
        ) from error
