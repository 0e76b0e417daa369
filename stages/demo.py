"""The whole pipeline on the digits that ship with scikit-learn: three seeds, few epochs, in a copy of this checkout.

`python -m stages.demo` leaves the study's own data, models and results alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages import params, records, tracking

FOLDER = Path("build/demo")
SEEDS = [0, 1, 2]
EPOCHS = 10


def demo_params(study: dict[str, Any]) -> dict[str, Any]:
    """The values of params.yaml with another data set, three seeds and few epochs."""
    variants = {
        name: {**recipe, "epochs": min(recipe["epochs"], EPOCHS)} if "epochs" in recipe else recipe
        for name, recipe in study["variants"].items()
    }
    return {**study, "data": {"name": "digits"}, "seeds": SEEDS, "variants": variants}


def run(*command: str, environment: dict[str, str]) -> None:
    """Run one command of the demo in its folder.

    Raises:
        StudyError: it ended with an error.
    """
    print(f"\n$ {' '.join(command)}", flush=True)
    answer = subprocess.run(command, cwd=FOLDER, env=environment, check=False)
    if answer.returncode != 0:
        raise records.StudyError(f"`{' '.join(command)}` ended with status {answer.returncode} in {FOLDER}")


@records.command
def main() -> None:
    params.load()
    yaml = YAML()
    yaml.default_flow_style = None
    shutil.rmtree(FOLDER, ignore_errors=True)
    clone = subprocess.run(["git", "clone", "--quiet", ".", str(FOLDER)], capture_output=True, text=True, check=False)
    if clone.returncode != 0:
        raise records.StudyError(f"this checkout can't be copied with git: {clone.stderr.strip()}")
    shutil.rmtree(FOLDER / "metrics", ignore_errors=True)
    values = YAML(typ="safe").load((FOLDER / params.PARAMS).read_text(encoding="utf-8"))
    with (FOLDER / params.PARAMS).open("w", encoding="utf-8") as file:
        yaml.dump(demo_params(values), file)
    # The demo's runs appear beside the study's, as an experiment of their own.
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking.tracking_uri()}
    run("dvc", "repro", "split", environment=environment)
    # All variants as one batch: a worker starts TensorFlow once for all of them. `dvc repro` then finds the runs done.
    run(sys.executable, "-m", "stages.train", "--all", environment=environment)
    run("dvc", "repro", environment=environment)
    print(
        f"Tables:  {FOLDER / records.TABLES}\nFigures: {FOLDER / records.PLOTS}\nReport:  {FOLDER / records.REPORT}\n"
        f"Three seeds and at most {EPOCHS} epochs on small digits: the networks have not learned much yet. The study "
        "on MNIST lies in metrics/; `make ui` shows the runs of both."
    )


if __name__ == "__main__":
    main()
