"""What the workspace holds of one run."""

import functools
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.study import environments, families, files, paths
from stages.study.environments import BACKEND_PACKAGES, Environment
from stages.study.models import read_facts
from stages.study.params import Params
from stages.study.results import NOT_RECORDED, find_results

PARTS = ("training", "scores", "files")  # a run is published part by part, as they come to be
RUN_FILES = ("run.json", "model.keras")
NO_CURVES = ("seed", "epoch", "search")
SCORES_NOTE = "`dev_` and `test_` are the scores of the saved weights."
FILES_NOTE = "Artifacts: `model.keras`, and `run.json` with all that decides the run's bits."
SHOWN_PACKAGES = ("keras", *BACKEND_PACKAGES)
NO_FILES_NOTE = "Published without its model and the time it took: the models were not there."


@dataclass(frozen=True)
class Record:
    """`facts` (run.json) only where the run's model is, `scores` only once it is evaluated; one of them is there.

    made_by: the run's environment and the processor, of run.json or of environments.csv; empty where neither says.
    """

    variant: str
    seed: int
    recipe: dict[str, Any]
    facts: dict[str, Any] | None
    curves: pd.DataFrame
    scores: dict[str, Any] | None
    key: str
    data: str  # digest of the training data
    made_by: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What made the run, as tags: `made_by`, and the versions of Keras and its backend."""
        if not self.made_by:
            return {}
        versions = Environment.parse(self.made_by["environment"]).versions
        return self.made_by | {name: value for name, value in versions.items() if name in SHOWN_PACKAGES}

    def note(self, *, with_files: bool) -> str:
        curves = ", ".join(f"`{name}`" for name in self.curves.columns if name not in NO_CURVES)
        by = "epoch" if "epoch" in self.curves.columns else "step of the search"
        return (
            f"Seed {self.seed} of {self.variant}. Curves by {by}: {curves}; `val_` is its dev split. {SCORES_NOTE} "
            f"{FILES_NOTE if with_files else NO_FILES_NOTE}"
        )

    def digest(self, part: str) -> str | None:
        """What tells whether a part has been published as it is; None where there is nothing of it to publish."""
        if part == "training":
            return files.digest(files.csv_bytes(self.curves))
        if part == "scores":
            return files.digest(repr(sorted(self.scores.items()))) if self.scores else None
        return self.facts["digests"]["model"] if self.facts else None


class Gathered:
    """The tables that hold all seeds of a variant, each read once."""

    def __init__(self, study: Params) -> None:
        self._study = study
        self.results = functools.cache(find_results)
        self.curves = functools.cache(self._curves)

    def _curves(self, variant: str) -> pd.DataFrame:
        return files.read_table(paths.curves_path(variant), ["seed", *self._study.recipe(variant).curve])


def read(study: Params, variant: str, seed: int, gathered: Gathered) -> Record | None:
    """The run's record, or None where the workspace has nothing of it.

    Raises:
        UserError: a file of the run is damaged, or its curves are missing.
    """
    recipe = study.recipe(variant)
    folder = paths.run_path(variant, seed)
    facts = read_facts(folder) if (folder / "run.json").exists() else None
    if facts and families.key_fields(facts.get("parameters")) != recipe.key_fields():
        facts = None  # a model from before: the scores are of another one, which is not here
    scores = _scores(variant, seed, gathered)
    if facts and scores and facts["key"] != scores["key"]:
        scores = None  # of the model that this one has replaced
    if facts:
        key, data = facts["key"], facts["digests"]["data"]
    elif scores:
        key, data = scores["key"], scores["data"]
    else:
        return None
    own = folder / "curves.csv"
    table = files.read_table(own, ["seed", *recipe.curve]) if facts and own.exists() else gathered.curves(variant)
    curves = table[table["seed"] == seed]
    made_by = _made_by(variant, seed, facts, gathered)
    return Record(variant, seed, recipe.model_dump(exclude={"seeds"}), facts, curves, scores, key, data, made_by)


def _made_by(variant: str, seed: int, facts: dict[str, Any] | None, gathered: Gathered) -> dict[str, str]:
    if facts:
        processor = facts.get("processor", NOT_RECORDED)
        return {"environment": str(environments.of_run(facts)), "processor": processor}
    results = gathered.results(variant)
    if results is None:
        return {}
    table = results.environments
    rows = table.loc[table["seed"] == seed, ["environment", "processor"]].to_dict("records")
    return {str(name): value for name, value in rows[0].items()} if rows else {}


def _scores(variant: str, seed: int, gathered: Gathered) -> dict[str, Any] | None:
    results = gathered.results(variant)
    if results is None:
        return None
    rows = results.scores[results.scores["seed"] == seed].to_dict("records")
    return {str(name): value for name, value in rows[0].items()} if rows else None
