"""What one revision of a study says and holds, read from git or from the files of the working tree."""

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import families, files, params, paths
from stages.study.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.results import EvaluatedRuns, Load, find_evaluated_runs, load_file

WORKING_TREE = "the working tree"


@dataclass(frozen=True)
class Side:
    """What one revision, or the working tree, says of the study, and the runs that it holds.

    Of another version of this code its params.yaml may have other keys: only what is needed here is read of it.

    data: the name of the data set.
    dev_fraction: of the training images.
    recipes: fields of each variant.
    statistics: as params.yaml has them.
    certificates: metrics/certified.csv; no rows where it is not there.
    """

    label: str
    commit: str | None
    data: str
    dev_fraction: float
    recipes: dict[str, dict[str, Any]]
    statistics: dict[str, Any]
    runs: dict[str, EvaluatedRuns]
    certificates: pd.DataFrame

    def recipe(self, variant: str) -> Recipe | None:
        """The recipe, its seeds aside, as this version of the code reads it; None where it can't."""
        fields = {**self.recipes[variant], "seeds": 1}
        try:
            return families.recipe_class(fields.get("family")).model_validate(fields)
        except (UserError, ValidationError):
            return None

    def seeds(self, variant: str) -> int:
        """How many seeds params.yaml asks for; 0 where it does not say, as those of another version of this code."""
        return int(self.recipes.get(variant, {}).get("seeds", 0))


def read_side(revision: str | None) -> Side:
    """What git holds at `revision`, or the working tree for None.

    Raises:
        UserError: the revision is unknown, or holds no study with results that this code can read; params.yaml of
            the working tree is not valid.
    """
    if revision is None:
        side = _side(WORKING_TREE, None, load_file)
        params.load()  # of this code, so it has to be valid: what can't be read can't be judged
        return side
    commit = _commit(revision)
    label = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
    return _side(label, commit, _reader(commit))


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _output(*arguments: str) -> bytes:
    answer = _git(*arguments)
    if answer.returncode != 0:
        raise UserError(f"`git {' '.join(arguments)}` failed: {answer.stderr.decode().strip()}")
    return answer.stdout


def _commit(revision: str) -> str:
    inside = _git("rev-parse", "--git-dir")
    if inside.returncode != 0:
        raise UserError(f"this folder is no git checkout: {inside.stderr.decode().strip()}")
    answer = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if answer.returncode != 0:
        # DVC keeps an experiment under the commit that it started from.
        listed = _output("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").decode().splitlines()
        named = [line.split()[0] for line in listed if line.rpartition("/")[2] == revision]
        if len(named) == 1:
            return named[0]
        if named:
            raise UserError(f"{len(named)} experiments have the name {revision!r}: name one by its commit, {named}")
        raise UserError(
            f"unknown revision {revision!r}: expected one commit, branch, tag or DVC experiment of this checkout "
            "(`git fetch` brings new ones, `git fetch --unshallow` the old ones that a shallow clone lacks)"
        )
    return answer.stdout.decode().strip()


def _reader(commit: str) -> Load:
    """Reads files of a commit; paths are relative to the current folder, as in the working tree."""
    wanted = [path.as_posix() for path in (params.PARAMS, CERTIFIED, paths.RUNS)]
    listed = _output("ls-tree", "-r", "-z", "--name-only", commit, "--", *wanted)
    known = set(listed.decode().split("\0"))

    def read(path: Path) -> bytes | None:
        name = path.as_posix()
        return _output("cat-file", "blob", f"{commit}:./{name}") if name in known else None

    return read


def _side(label: str, commit: str | None, read: Load) -> Side:
    text = read(params.PARAMS)
    if text is None:
        raise UserError(f"{label} has no {params.PARAMS} here: run this from the top folder of the study")
    source = f"{params.PARAMS} in {label}"
    try:
        study = files.yaml_values(text.decode(errors="replace"), source)
        recipes = {str(name): dict(recipe) for name, recipe in study["variants"].items()}
        data, dev_fraction = str(study["data"]["name"]), float(study["split"]["dev_fraction"])
        settings = dict(study["statistics"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source} should have data.name, split.dev_fraction, variants and statistics, received something else: "
            f"{error!r}"
        ) from error
    for name, recipe in recipes.items():
        seeds = recipe.get("seeds", 1)
        if type(seeds) is not int or not 0 < seeds <= params.MOST_SEEDS:
            raise UserError(
                f"variants.{name}.seeds of {source} should be a whole number from 1 to {params.MOST_SEEDS:,}, received "
                f"{seeds!r}"
            )
    try:
        found = {name: find_evaluated_runs(name, read, f" in {label}") for name in recipes}
    except UserError as error:
        hint = "" if commit is None else f". {label} may have results in the format of another version of this study"
        raise UserError(f"{error}{hint}") from error
    runs = {name: variant for name, variant in found.items() if variant is not None}
    if not runs:
        raise UserError(
            f"{label} has no results: expected {paths.scores_path('<variant>')} for the variants of its "
            f"{params.PARAMS}, found none"
        )
    certificates = _table(CERTIFIED, CERTIFIED_COLUMNS, label, read)
    if certificates is None:
        certificates = pd.DataFrame(columns=CERTIFIED_COLUMNS)
    return Side(label, commit, data, dev_fraction, recipes, settings, runs, certificates)


def _table(path: Path, columns: list[str], label: str, read: Load) -> pd.DataFrame | None:
    """A CSV file with these columns, as text; None where a side has none.

    Raises:
        UserError: it is not such a file.
    """
    content = read(path)
    if content is None:
        return None
    try:
        return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)[columns]
    except (KeyError, ValueError) as error:  # of pandas: ParserError, EmptyDataError
        raise UserError(
            f"{path} in {label} should be a CSV file with the columns {', '.join(columns)}, received something else "
            f"({error}): restore it with git"
        ) from error
