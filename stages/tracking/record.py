"""What the workspace holds of the runs of a variant: their results, and the models that are here."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import environments, families
from stages.study.provenance.environments import BACKEND_PACKAGES, Environment
from stages.study.records.models import read_facts
from stages.study.records.results import (
    DIVERGED,
    ENVIRONMENT_COLUMNS,
    NOT_RECORDED,
    RUN_COLUMNS,
    find_results,
    read_curves,
)
from stages.tracking.client import warn
from stages.tracking.experiment import Metric

ONE_CLASS = "predicts_one_class"
# Columns of the files of results.
NO_METRICS = {*RUN_COLUMNS, *ENVIRONMENT_COLUMNS, "epoch", "search", ONE_CLASS, DIVERGED}
SHOWN_PACKAGES = ("keras", *BACKEND_PACKAGES)


@dataclass(frozen=True)
class Record:
    """A run that was trained, evaluated or both.

    Attributes:
        variant: its variant.
        seed: its seed.
        key: identifies recipe, seed, data and environment.
        data: SHA-256 of the training data.
        params: the fields of the recipe, and the seed.
        curves: the points of its curves.
        scores: its scores by name; empty if it was not evaluated.
        made_by: its environment, processor and SHA-256 of model.keras, as recorded with the scores: these are in git,
            so that they are the same in every clone. Of a run that was not evaluated, as recorded with the model.
        facts: run.json; None if the model is not in the workspace.
        predicts_one_class: whether its model predicts the same class for all test images, which are of several.
        diverged: the epoch in which its training diverged; None if it did not.
    """

    variant: str
    seed: int
    key: str
    data: str
    params: dict[str, Any]
    curves: list[Metric]
    scores: dict[str, float]
    made_by: dict[str, str]
    facts: dict[str, Any] | None
    predicts_one_class: bool = False
    diverged: int | None = None

    @property
    def model(self) -> str | None:
        """SHA-256 of model.keras, if it is in the workspace."""
        return self.facts["digests"]["model"] if self.facts else None

    def digest(self, *, scores: bool = True) -> str:
        """A digest of what is published: curves, scores, environment and model.

        Args:
            scores: whether to include the scores; without them it is the digest of the run before its evaluation.
        """
        return files.digest(repr([self.curves, self.scores if scores else {}, self.made_by]))

    def environment(self) -> dict[str, str]:
        """What made the run, as tags: environment, processor, and the versions of Keras and its backend."""
        versions = Environment.parse(self.made_by["environment"]).versions
        shown = {name: version for name, version in versions.items() if name in SHOWN_PACKAGES}
        return {"environment": self.made_by["environment"], "processor": self.made_by["processor"], **shown}


def read_records(study: Params, variant: str, seeds: Iterable[int]) -> list[Record]:
    """The runs of a variant that the workspace has models or scores of; a warning for each that can't be read."""
    try:
        results = find_results(variant)
    except UserError as error:
        warn(f"{variant} is not published: {error}")
        return []
    evaluated = {}
    if results is not None:
        of_one_class = pd.DataFrame({"seed": results.seeds, ONE_CLASS: results.predicts_one_class})
        tables = results.scores.merge(results.environments, on="seed").merge(of_one_class, on="seed")
        rows = tables.to_dict("records")
        evaluated = {row["seed"]: row for row in rows}
    gathered = functools.cache(lambda: read_curves(variant, study.recipe(variant).curve))
    records = []
    for seed in seeds:
        try:
            record = _read(study, variant, seed, evaluated.get(seed), gathered)
        except UserError as error:
            warn(f"{variant} seed {seed} is not published: {error}")
        else:
            records += [record] if record else []
    return records


def _read(
    study: Params, variant: str, seed: int, evaluated: dict[Any, Any] | None, gathered: Callable[[], pd.DataFrame]
) -> Record | None:
    """The run, or None if the workspace has nothing of it.

    Args:
        study: what params.yaml says.
        variant: the run's variant.
        seed: its seed.
        evaluated: its row of test.csv and environments.csv, if there is one.
        gathered: reads the curves.csv of the variant.
    """
    recipe, folder = study.recipe(variant), paths.run_path(variant, seed)
    facts = _facts(folder, recipe)
    trained = _trained(facts) if facts else None
    if trained and evaluated and not _same_model(trained, evaluated):
        evaluated = None  # of an earlier model
    row = evaluated or trained
    if row is None:
        return None
    own = facts is not None and (folder / "curves.csv").exists()
    curves = read_curves(variant, recipe.curve, [seed], folder) if own else gathered()
    return Record(
        variant=variant,
        seed=seed,
        key=row["key"],
        data=row["data"],
        params={**recipe.model_dump(exclude={"seeds"}), "seed": seed},
        curves=_points(curves[curves["seed"] == seed]),
        scores=_scores(evaluated or {}),
        made_by={name: row[name] for name in ("environment", "processor", "model")},
        facts=facts,
        predicts_one_class=bool((evaluated or {}).get(ONE_CLASS)),
        diverged=_diverged(row),
    )


def _facts(folder: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The content of run.json; None without a model, or for a model of an earlier recipe."""
    if not (folder / "run.json").exists():
        return None
    facts = read_facts(folder)
    return facts if families.key_fields(facts.get("parameters")) == recipe.key_fields() else None


def _diverged(row: dict[Any, Any]) -> int | None:
    epoch: Any = row.get(DIVERGED)
    return None if pd.isna(epoch) else int(epoch)


def _scores(evaluated: dict[Any, Any]) -> dict[str, float]:
    """The numbers of a row of test.csv."""
    numbers = {name: value for name, value in evaluated.items() if name not in NO_METRICS and pd.notna(value)}
    return {str(name): float(value) for name, value in numbers.items()}


def _trained(facts: dict[str, Any]) -> dict[str, Any]:
    """What run.json says of a run, under the names of the columns of test.csv and environments.csv."""
    return {
        "key": facts["key"],
        "data": facts["digests"]["data"],
        "environment": str(environments.of_run(facts)),
        "processor": facts.get("processor", NOT_RECORDED),
        "model": facts["digests"]["model"],
        DIVERGED: facts.get("diverged", {}).get("epoch"),
    }


def _same_model(trained: dict[str, Any], evaluated: dict[Any, Any]) -> bool:
    same = evaluated["model"] in (NOT_RECORDED, trained["model"])
    return bool(same and trained["key"] == evaluated["key"])


def _points(curves: pd.DataFrame) -> list[Metric]:
    """The points of the curves of a run, by epoch or by step of a search."""
    return [
        (str(name), float(value), int(row.get("epoch", step)))
        for step, row in enumerate(curves.to_dict("records"))
        for name, value in row.items()
        if name not in NO_METRICS and pd.notna(value)
    ]
