"""The whole pipeline on the digits that ship with scikit-learn: three seeds, few epochs, in a copy of the last commit.

`python -m stages.demo` leaves the study's own data, models and results alone.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages import params, records, terminal, tracking
from stages.errors import StudyError

FOLDER = Path("build/demo")
SEEDS = 3
EPOCHS = 5
STAGES = ["train", "evaluate"]


def demo_params(study: dict[str, Any]) -> dict[str, Any]:
    """The values of params.yaml with another data set, three seeds and few epochs."""
    variants = {
        name: {**recipe, "seeds": SEEDS, **({"epochs": min(recipe["epochs"], EPOCHS)} if "epochs" in recipe else {})}
        for name, recipe in study["variants"].items()
    }
    return {**study, "data": {"name": "digits"}, "variants": variants}


def run(*commands: list[str], environment: dict[str, str]) -> None:
    """Run commands in the demo's folder, side by side.

    Raises:
        StudyError: one of them ended with an error; all have ended.
    """
    print("\n" + "\n".join(f"$ {shlex.join(command)}" for command in commands), flush=True)
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=FOLDER, env=environment)) for command in commands
        ]
    for command, process in zip(commands, processes, strict=True):
        if process.returncode != 0:
            raise StudyError(f"`{shlex.join(command)}` ended with status {process.returncode} in {FOLDER}")


@terminal.command
def main() -> None:
    terminal.take_no_arguments("stages.demo", __doc__)
    params.load()
    yaml = YAML()
    yaml.default_flow_style = None
    shutil.rmtree(FOLDER, ignore_errors=True)
    clone = subprocess.run(["git", "clone", "--quiet", ".", str(FOLDER)], capture_output=True, text=True, check=False)
    if clone.returncode != 0:
        raise StudyError(f"this checkout can't be copied with git: {clone.stderr.strip()}")
    shutil.rmtree(FOLDER / "metrics", ignore_errors=True)
    if subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=False).stdout:
        print("The demo shows the last commit: what is not committed here has no part in it.", flush=True)
    values = YAML(typ="safe").load((FOLDER / params.PARAMS).read_text(encoding="utf-8"))
    with (FOLDER / params.PARAMS).open("w", encoding="utf-8") as file:
        yaml.dump(demo_params(values), file)
    # The demo's runs appear beside the study's, as an experiment of their own.
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking.tracking_uri()}
    run(["dvc", "repro", "split"], environment=environment)
    # All variants as one batch: a worker starts TensorFlow once for all of them. `dvc repro` then finds the runs done.
    run([sys.executable, "-m", "stages.train", "--all"], environment=environment)
    # DVC runs one stage at a time, and starting is most of what a stage does here: two share the stages. Without
    # --single-item each would lock `split` too, which the other's stages read.
    repro = ["dvc", "--wait-for-lock", "repro", "--single-item"]
    variants = list(values["variants"])
    halves = ([f"{stage}@{name}" for name in half for stage in STAGES] for half in (variants[::2], variants[1::2]))
    run(*([*repro, *half] for half in halves if half), environment=environment)
    run(["dvc", "repro"], environment=environment)
    print(
        f"Tables:  {FOLDER / records.TABLES}\nFigures: {FOLDER / records.PLOTS}\nReport:  {FOLDER / records.REPORT}\n"
        f"Three seeds and at most {EPOCHS} epochs on small digits: the networks have not learned much yet. The study "
        "on MNIST lies in metrics/; `make ui` shows the runs of both."
    )


if __name__ == "__main__":
    main()
