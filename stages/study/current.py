"""Whether the results that the workspace holds are those of params.yaml."""

import math
from pathlib import Path
from typing import Any

from stages.study import dvc, families, files, params, records
from stages.study.params import Params


def outdated(study: Params) -> list[str]:
    """The variants whose results, as DVC has recorded them, are not of the study's parameters and data."""
    stages = dvc.recorded()

    def recorded(stage: str, what: str) -> dict[str, Any]:
        return {entry["path"]: entry.get("md5") for entry in stages.get(stage, {}).get(what, [])}

    def parameters(stage: str) -> dict[str, Any]:
        return dict(stages[stage].get("params", {}).get(str(params.PARAMS), {}))

    other_data = "fetch" in stages and parameters("fetch").get("data") != study.data.model_dump(exclude_unset=True)
    images = str(records.TRAIN)
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
    tables_and_plots = [path for folder in (records.TABLES, records.PLOTS) for path in sorted(folder.glob("*"))]
    return [records.REPORT, records.SUMMARY, records.CHAMPION, *tables_and_plots]


def study_key() -> str:
    """The tag `KEY` of the run `study` with the files that are here."""
    return files.digest("study", *(part for path in study_files() for part in (path.name, path.read_bytes())))


def aggregated(study: Params) -> bool:
    """Whether what aggregation made is of the study's parameters, and of the scores that the workspace holds."""
    if not all(path.exists() for path in study_files()) or outdated(study):
        return False
    summary = files.read_json(records.SUMMARY)
    for variant, recipe in study.variants.items():
        if variant not in summary or not records.scores_path(variant).exists():
            return False
        scores, mean = records.read_scores(variant)["test_accuracy"], summary[variant]["test_accuracy"]["mean"]
        if len(scores) != recipe.seeds or not math.isclose(scores.mean(), mean, abs_tol=1e-7):
            return False
    return True
