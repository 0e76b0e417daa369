"""Saved views of the runs, which MLflow's UI lists under "Views": a filter, columns and an order each.

MLflow stores a saved view as a tag of the experiment. Its format is private: it follows what the UI of the pinned
version writes, and a browser test opens the views.
"""

import base64
import json
import zlib

from stages.study.params import Params

TAG = "mlflow.sharedViewState."
SCORES = ("dev_accuracy", "test_accuracy", "test_loss")


def views(study: Params) -> dict[str, str]:
    """Tags of the experiment: views of the approaches, the variants, all runs, and the seeds of each approach."""
    listed = _listed(study)
    # The UI lists them by their time of creation, the newest first.
    return {
        f"{TAG}{key}": _tag(name, len(listed) - place, filter_, metrics)
        for place, (key, name, filter_, metrics) in enumerate(listed)
    }


def addresses(study: Params, base: str, experiment: str) -> dict[str, str]:
    """The URLs of the views by their names, the approaches first, in the UI's mode for model training.

    Args:
        study: what params.yaml says.
        base: the URL of the UI.
        experiment: the id of the experiment.
    """
    page = f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey="
    return {name: f"{page}{key}" for key, name, _, _ in _listed(study)}


def _listed(study: Params) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """The key, name, filter and columns of each view."""
    means = ("seeds", *SCORES[:2], "test_accuracy_sd", SCORES[2])
    listed: list[tuple[str, str, str, tuple[str, ...]]] = [
        ("study-approaches", "Approaches", "tags.role = 'variant' and tags.approach LIKE '%'", means),
        ("study-variants", "Variants, best dev accuracy first", "tags.role = 'variant'", means),
        ("study-runs", "Runs, best dev accuracy first", "tags.role = 'seed'", (*SCORES, "epochs", "best_epoch")),
    ]
    for approach, variant in study.approaches.items():
        seeds = f"tags.role = 'seed' and tags.variant = '{variant}'"
        listed.append(
            (f"study-{variant}", f"{approach}: the seeds of {variant}", seeds, (*SCORES, "epochs", "best_epoch"))
        )
    return listed


def _tag(name: str, made: int, filter_: str, metrics: tuple[str, ...]) -> str:
    state = {
        **{"searchFilter": filter_, "orderByKey": "metrics.`dev_accuracy`", "orderByAsc": False},
        **{"startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs"},
        "selectedColumns": [f"metrics.`{metric}`" for metric in metrics],
        **{"columnOrder": [], "columnWidths": {}, "runsHiddenMode": "FIRST_10_RUNS", "viewMaximized": False},
        **{"runListHidden": False, "isAccordionReordered": False, "useGroupedValuesInCharts": True},
        **{"hideEmptyCharts": True, "groupBy": None, "groupsExpanded": {}},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": made, "updatedAt": made, "state": f"deflate;{packed}"})
