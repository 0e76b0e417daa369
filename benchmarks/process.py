"""Processes of measurements, without the settings of the user who starts them."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.params import Params

DATABASE = "mlflow.db"
# The first two rows decide what is computed where and what is published, the third how many threads it has.
SETTINGS = {
    "KERAS_BACKEND",
    "STUDY_EXECUTOR",
    "STUDY_WORKERS",
    "STUDY_REUSE",
    "DASK_SCHEDULER_ADDRESS",
    *("MLFLOW_TRACKING_URI",),
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
}


def processor() -> dict[str, str]:
    """What the system says of its first processor, "model name" and "flags" among it; empty but on Linux."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = [line.partition(":") for line in path.read_text().split("\n\n")[0].splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


def processor_name() -> str:
    return processor().get("model name") or platform.machine()


def require_data() -> None:
    """See that the study's images are here.

    Raises:
        UserError: they are not.
    """
    if missing := [str(path) for path in (paths.TRAIN, paths.DEV) if not path.exists()]:
        raise UserError(
            f"the study's images should be here, but {' and '.join(missing)} can't be found: run `dvc repro split`, "
            "which fetches them and trains nothing"
        )


def write_study(study: Params, folder: Path) -> None:
    """Write the params.yaml of a study into `folder`."""
    # JSON is YAML. What is not set stays out: a data set that the project knows may have its name alone.
    files.write_json(folder / params.PARAMS, study.model_dump(exclude_unset=True))


def environment(folder: Path) -> dict[str, str]:
    """For a process in `folder`, with its MLflow there."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),  # after the folder itself, which may have its own code
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder.resolve() / DATABASE}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return kept | own


def measure(what: str, folder: Path = Path(), **arguments: Any) -> dict[str, Any]:
    """The answer of `benchmarks.measure` in a process of its own.

    Raises:
        UserError: it failed; the message ends with what it printed.
    """
    command = [sys.executable, "-m", "benchmarks.measure", what, json.dumps(arguments)]
    answer = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"measuring {what} {arguments} failed:\n{answer.stderr[-2000:]}")
    return json.loads(answer.stdout.splitlines()[-1])
