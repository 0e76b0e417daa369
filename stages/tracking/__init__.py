"""The study's runs as MLflow shows them. Besides, only `register`, `serve` and `mlflow_source` import mlflow.

MLflow is a view: everything here is read from the files of the study, and can be published again at any time.
`python -m stages.tracking` publishes whatever the workspace holds and MLflow lacks.
"""

from stages.study.current import aggregated, outdated, study_files, study_key
from stages.tracking.address import (
    ARTIFACTS,
    DATABASE,
    ENVIRONMENT,
    KEY,
    MARK,
    MODEL_NAME,
    client_environment,
    experiment_name,
    lock,
    model_name,
    server,
    shown_uri,
    tracking_uri,
)
from stages.tracking.client import in_a_line
from stages.tracking.publisher import Publisher
from stages.tracking.target import pages

__all__ = [
    "ARTIFACTS",
    "DATABASE",
    "ENVIRONMENT",
    "KEY",
    "MARK",
    "MODEL_NAME",
    "Publisher",
    "aggregated",
    "client_environment",
    "experiment_name",
    "in_a_line",
    "lock",
    "model_name",
    "outdated",
    "pages",
    "server",
    "shown_uri",
    "study_files",
    "study_key",
    "tracking_uri",
]
