"""Train runs with the code of another commit. `tools.certify.old` runs this text by `python -c` in a checkout of it.

It calls what every commit since stages/recipes has: `plan`, `train_all`, and the scores and readers of stages/evaluate.
Its argument says what to do, as JSON: classes, runs (variant, seed, fields of the recipe, folder to leave it in) and
whether to evaluate.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def end_with_parent(parent: int) -> None:
    """End this process and its workers, which are a group of their own, once the one that started it has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def shared(name: str) -> Any:
    """A module that the stages share: in stages/study, or in commits of version 1 right below stages."""
    try:
        return importlib.import_module(f"stages.study.{name}")
    except ModuleNotFoundError:
        return importlib.import_module(f"stages.{name}")


def train(wanted: dict[str, Any]) -> None:
    """Train the runs, and leave each in its folder as it ends."""
    from stages.train.plan import plan
    from stages.train.schedule import train_all

    families, records = shared("families"), shared("records")
    recipes, folders = {}, {}
    for run in wanted["runs"]:
        name, seed = run["variant"], run["seed"]
        folders[name, seed] = Path(run["folder"])
        seeds = 1 + max(other["seed"] for other in wanted["runs"] if other["variant"] == name)
        recipes[name] = families.recipe_class(run["fields"]["family"]).model_validate(run["fields"] | {"seeds": seeds})

    def keep(variant: str, seed: int) -> None:
        unfinished = folders[variant, seed].with_name(f".{seed}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(records.run_path(variant, seed), unfinished)
        shutil.rmtree(folders[variant, seed], ignore_errors=True)
        unfinished.rename(folders[variant, seed])

    images, labels = records.read_images(records.TRAIN)
    study: Any = SimpleNamespace(recipe=recipes.__getitem__)
    planned = plan(study, list(recipes), images, labels, wanted["classes"])
    train_all([run for run in planned if (run.variant, run.seed) in folders], images, labels, on_finish=keep)


def evaluate(wanted: dict[str, Any]) -> None:
    """Leave scores, calibration and labels of each run beside its model."""
    import numpy as np
    import pandas as pd

    from stages.evaluate import __main__ as stage
    from stages.evaluate import scores

    families, files, records = shared("families"), shared("files"), shared("records")
    images, truth = records.read_images(records.TEST)
    for run in wanted["runs"]:
        folder = Path(run["folder"])
        recipe = families.recipe_class(run["fields"]["family"])
        facts = records.read_facts(folder)
        output = stage.predict(records.read_model(folder, facts), images)
        row = {"seed": run["seed"], "data": facts["digests"]["data"]}
        row |= {name: metric(output, truth) for name, metric in scores.metrics(recipe.probabilities).items()}
        row |= {name: facts[name] for name in recipe.facts}
        bins = scores.calibration(output, truth) if recipe.probabilities else pd.DataFrame()
        bins.insert(0, "seed", run["seed"])
        (folder / "calibration.csv").write_bytes(files.csv_bytes(bins))
        np.save(folder / "labels.npy", stage.labels_of(output))
        (folder / "test.csv").write_bytes(files.csv_bytes(pd.DataFrame([row])))


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    job = json.loads(sys.argv[1])
    if job["evaluate"]:
        evaluate(job)
    else:
        train(job)
