"""Whether the results that the workspace holds are those of params.yaml."""

import math
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from stages.study import dvc, families, files, params, paths
from stages.study.params import Params
from stages.study.results import find_results


def outdated(study: Params) -> list[str]:
    """The variants whose results, as DVC has recorded them, are not of the study's parameters and data."""
    stages = dvc.recorded()

    def recorded(stage: str, what: str) -> dict[str, Any]:
        return {entry["path"]: entry.get("md5") for entry in stages.get(stage, {}).get(what, [])}

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
            or recorded(stage, "deps").get(images) != recorded("split", "outs").get(images)
        ):
            found.append(variant)
    return found


def study_files() -> list[Path]:
    """What aggregation makes and MLflow's run `study` holds."""
    tables_and_plots = [path for folder in (paths.TABLES, paths.PLOTS) for path in sorted(folder.glob("*"))]
    return [paths.REPORT, paths.SUMMARY, paths.CHAMPION, *tables_and_plots]


def study_key() -> str:
    """The tag `KEY` of the run `study` with the files that are here."""
    return files.digest("study", *(part for path in study_files() for part in (path.name, path.read_bytes())))


def aggregated(study: Params) -> bool:
    """Whether what aggregation made is of the study's parameters, and of the scores that the workspace holds."""
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
