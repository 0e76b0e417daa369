"""Views of the runs that MLflow's UI lists under "Views": the columns, filter and order for what people look for.

MLflow keeps a saved view as a tag of the experiment; the form is that of its UI, read from what the UI of the pinned
version writes. A browser test opens them.
"""

import base64
import json
import zlib

from stages.params import Params

TAG = "mlflow.sharedViewState."
SCORES = ("dev_accuracy", "test_accuracy", "test_loss")


def views(study: Params) -> dict[str, str]:
    """Tags of the experiment: a view of the approaches, of the variants, of all runs, and of each approach's seeds."""
    means = ("seeds", *SCORES[:2], "test_accuracy_sd", SCORES[2])
    listed = [
        ("approaches", "Approaches", "tags.role = 'variant' and tags.approach LIKE '%'", means),
        ("variants", "Variants, best dev accuracy first", "tags.role = 'variant'", means),
        ("runs", "Runs, best dev accuracy first", "tags.role = 'seed'", (*SCORES, "epochs", "best_epoch")),
    ]
    for approach, variant in study.approaches.items():
        seeds = f"tags.role = 'seed' and tags.variant = '{variant}'"
        listed.append((variant, f"{approach}: the seeds of {variant}", seeds, (*SCORES, "epochs", "best_epoch")))
    # The UI lists them by the time they were made, the newest first.
    return {
        f"{TAG}study-{key}": _tag(name, len(listed) - place, filter_, metrics)
        for place, (key, name, filter_, metrics) in enumerate(listed)
    }


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
