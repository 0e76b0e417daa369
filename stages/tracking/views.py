"""The pages of the study in MLflow's UI, by their addresses: each with the filter and order for what people look for.

MLflow has no public way to say which columns a page shows. The page that opens first gets them from a saved view, a tag
of the experiment in the form that the UI of the pinned version writes; a browser test opens it.
"""

import base64
import json
import zlib
from typing import Any
from urllib.parse import urlencode

from stages.study.params import Params
from stages.tracking.results import RESULT

VIEW = "study-approaches"
TAG = f"mlflow.sharedViewState.{VIEW}"
NAME = "Approaches"
APPROACHES = "tags.role = 'variant' and tags.approach LIKE '%'"
ORDER = {"orderByKey": "metrics.`dev_accuracy`", "orderByAsc": False}
COLUMNS = ("dev_accuracy", "test_accuracy", "test_loss")  # metrics, beside the tag with the interval
CHARTS = ("test_accuracy", "dev_accuracy", "test_loss")  # the first ones; those of other metrics follow
SECTION = "Model metrics"  # the name that MLflow gives to charts of metrics without a slash


def saved_view() -> str:
    """The value of `TAG`: the approaches side by side, with their scores as columns and charts."""
    columns = [f"tags.`{RESULT}`", *(f"metrics.`{name}`" for name in COLUMNS)]
    state = {"searchFilter": APPROACHES, **ORDER, "selectedColumns": columns, **_charts()}
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": NAME, "createdAt": 1, "updatedAt": 1, "state": f"deflate;{packed}"})


def _charts() -> dict[str, Any]:
    """The part of a view's state that says which charts are first."""
    common = {"deleted": False, "isGenerated": True}
    bar = {"type": "BAR", "runsCountToCompare": 10, "metricSectionId": SECTION, **common}
    return {
        "compareRunCharts": [{**bar, "uuid": name, "metricKey": name, "displayName": name} for name in CHARTS],
        "compareRunSections": [{"uuid": SECTION, "name": SECTION, "display": True, "isReordered": True, **common}],
    }


def addresses(study: Params, base: str, experiment: str) -> dict[str, str]:
    """The pages by their names, the one that opens first at the front, in the UI's mode for model training.

    Args:
        study: what params.yaml says.
        base: the address of the UI.
        experiment: its id there.
    """
    page = f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    filters = {
        "Variants, best validation accuracy first": "tags.role = 'variant'",
        "Runs, best validation accuracy first": "tags.role = 'seed'",
    }
    for approach, variant in study.approaches.items():
        filters[f"{approach}: the seeds of {variant}"] = f"tags.role = 'seed' and tags.variant = '{variant}'"
    order = {**ORDER, "orderByAsc": "false"}
    found = {name: f"{page}&{urlencode({'searchFilter': text, **order})}" for name, text in filters.items()}
    return {NAME: f"{page}&viewStateShareKey={VIEW}", **found}
