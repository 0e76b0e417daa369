"""Whether the results in the workspace are those of params.yaml."""

import math
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from stages.study import dvc, files, params, paths
from stages.study.params import Params
from stages.study.provenance import families
from stages.study.records.results import find_results


def outdated(study: Params) -> list[str]:
    """The variants whose results were made from other parameters or data, as recorded in dvc.lock.

    Raises:
        UserError: dvc.lock is damaged.
    """
    stages = dvc.recorded()

    def digests(stage: str, key: str) -> dict[str, Any]:
        return {entry["path"]: entry.get("md5") for entry in stages.get(stage, {}).get(key, [])}

    def parameters(stage: str) -> dict[str, Any]:
        return dict(stages[stage].get("params", {}).get(str(params.PARAMS), {}))

    other_data = "fetch" in stages and parameters("fetch").get("data") != study.data.model_dump(exclude_unset=True)
    images = str(paths.TRAIN)
    found = []
    for variant, recipe in study.variants.items():
        stage = f"train@{variant}"
        if stage in stages and (
            other_data
            or families.key_fields(parameters(stage).get(f"variants.{variant}")) != recipe.key_fields()
            or digests(stage, "deps").get(images) != digests("split", "outs").get(images)
        ):
            found.append(variant)
    return found


def study_files() -> list[Path]:
    """The files that the stage `aggregate` writes and MLflow's run `study` has as artifacts."""
    tables_and_plots = [path for folder in (paths.TABLES, paths.PLOTS) for path in sorted(folder.glob("*"))]
    return [paths.REPORT, paths.SUMMARY, paths.CHAMPION, *tables_and_plots]


def study_key() -> str:
    """The value of MLflow's tag `KEY` for the run `study`: a digest of `study_files`."""
    parts: list[str | bytes] = ["study"]
    for path in study_files():
        parts += [path.name, path.read_bytes()]
    return files.digest(*parts)


def aggregated(study: Params) -> bool:
    """Whether the files of the stage `aggregate` were made from the study's parameters and the scores in the workspace.

    Raises:
        UserError: dvc.lock or summary.json is damaged.
    """
    if not all(path.exists() for path in study_files()) or outdated(study):
        return False
    summary = files.read_json(paths.SUMMARY)
    for variant, recipe in study.variants.items():
        try:
            results = find_results(variant)
        except UserError:  # damaged
            return False
        if variant not in summary or results is None:
            return False
        mean = summary[variant]["test_accuracy"]["mean"]
        if len(results.seeds) != recipe.seeds or not math.isclose(results.accuracy.mean(), mean, abs_tol=1e-7):
            return False
    return True
