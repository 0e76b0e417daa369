"""The environments that made the results of a variant: they follow from the keys of its runs."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.recipes.shared.recipe import Recipe
from stages.study import files, paths
from stages.study.provenance import environments
from stages.study.provenance.environments import Environment, Part
from stages.study.records.models import read_facts
from stages.study.records.results import ENVIRONMENT_COLUMNS, NOT_RECORDED, find_evaluated_runs
from stages.study.records.splits import read_validation
from stages.train.run import run_key
from tools.migrate.checks import check_evaluated
from tools.migrate.version_1 import Packages, Version1


@dataclass(frozen=True)
class Origin:
    """The environments that made the results of a variant.

    Attributes:
        rows: of environments.csv.
        environments: part → environment, for metrics/code.yaml.
    """

    rows: pd.DataFrame
    environments: dict[Part, Environment]


def find_origin(variant: str, recipe: Recipe, old: Version1) -> Origin:
    """The environments that made the results of a variant.

    Args:
        variant: the variant.
        recipe: its recipe.
        old: the last commit with version 1.

    Raises:
        UserError: they do not follow from the results.
    """
    check_evaluated(variant, old)
    results = find_evaluated_runs(variant)
    if results is None:
        raise UserError(f"{paths.scores_path(variant)} is missing: restore it with git")
    code, scoring = old.code_digest(recipe.family), environments.scoring_digest()
    rows: list[list[Any]] = []
    found: dict[int, Packages | None] = {}
    for seed, key, data in zip(results.seeds, results.keys, results.data, strict=True):
        facts = _facts(variant, seed, key)
        known = [*_recorded_packages(facts, old), *old.packages]
        found[seed] = packages = _find_packages(variant, recipe, seed, key, {"data": data, "code": code}, known)
        if packages is not None:
            rows.append([seed, *_run_environments(packages, code, scoring), *_model_and_processor(facts)])
    versions = _common_versions(variant, found, old)
    # As the stage `code` writes it: without an executor, and with the versions of TensorFlow.
    return Origin(
        pd.DataFrame(rows, columns=ENVIRONMENT_COLUMNS),
        {"train": Environment(code, versions), "evaluate": Environment(scoring, versions)},
    )


def _run_environments(packages: Packages, code: str, scoring: str) -> tuple[str, str]:
    """The environments of training and evaluation of a run, as text."""
    trained = Environment(code, packages.versions, packages.executor)
    # TensorFlow evaluates runs of a GPU; other runs are evaluated with the backend that trained them.
    evaluated = Environment(scoring, packages.evaluating if packages.executor else packages.versions)
    return str(trained), str(evaluated)


def _model_and_processor(facts: dict[str, Any]) -> tuple[str, str]:
    return facts.get("digests", {}).get("model", NOT_RECORDED), facts.get("processor", NOT_RECORDED)


def _facts(variant: str, seed: int, key: str) -> dict[str, Any]:
    """The run.json of a run; empty if its model is not in this workspace."""
    folder = paths.run_path(variant, seed)
    facts = read_facts(folder) if (folder / "model.keras").exists() else {}
    return facts if facts.get("key") == key else {}


def _recorded_packages(facts: dict[str, Any], old: Version1) -> list[Packages]:
    """The packages in run.json; with TensorFlow of requirements.lock if run.json has another backend."""
    if "versions" not in facts:
        return []
    versions = dict(facts["versions"])
    with_tensorflow = [known.evaluating for known in old.packages if "tensorflow" in known.evaluating]
    evaluating = versions if "tensorflow" in versions else next(iter(with_tensorflow), versions)
    return [Packages(versions, evaluating, facts["digests"].get("executor"), "run.json")]


def _find_packages(
    variant: str, recipe: Recipe, seed: int, key: str, digests: dict[str, str], known: list[Packages]
) -> Packages | None:
    """The packages from which the key of a run follows, or None."""
    if recipe.uses_validation:
        if not paths.DEV.exists():
            raise UserError(
                f"{paths.DEV} is missing, from which the keys of {variant} follow: run `dvc repro split`, then this "
                "command again"
            )
        digests = digests | {"dev": files.digest(read_validation(seed))}
    for packages in known:
        executor = {"executor": packages.executor} if packages.executor else {}
        if run_key(variant, recipe, seed, digests | executor, packages.versions) == key:
            return packages
    return None


def _common_versions(variant: str, found: dict[int, Packages | None], old: Version1) -> dict[str, str]:
    """The versions of all seeds of a variant.

    Raises:
        UserError: those of a seed are unknown, or they differ.
    """
    if unknown := [str(seed) for seed, packages in found.items() if packages is None]:
        tried = "; ".join(f"{packages.source}: {_as_text(packages.versions)}" for packages in old.packages)
        raise UserError(
            f"the keys in {paths.scores_path(variant)} should follow from the recipe, the code of commit "
            f"{old.commit[:7]} and known packages; those of seed(s) {listed(unknown)} follow from none of: {tried}. "
            f"Install the packages that trained them, or restore their models, and run this command again; or train "
            f"{variant} again with version 1, commit, and migrate then"
        )
    versions = [packages.evaluating for packages in found.values() if packages is not None]
    if any(others != versions[0] for others in versions):
        texts = sorted({_as_text(others) for others in versions})
        raise UserError(
            f"the seeds of {variant} should have been trained with the same packages, received {'; '.join(texts)}: "
            "train the variant again with version 1, commit, and migrate then"
        )
    return versions[0]


def _as_text(versions: dict[str, str]) -> str:
    return " ".join(f"{name}={version}" for name, version in versions.items())
