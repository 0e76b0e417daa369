"""Train runs with the code of another commit: `tools.certify.old` runs this file by `python -c` in a checkout of it.

It uses only functions that every commit with stages/recipes has: `plan`, `train_all`, and the scores and readers of
stages/evaluate. Its standard input is a job as JSON: the number of classes, the runs (variant, seed, fields of the
recipe and folder of the run), and whether to evaluate them.
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
    """End this process and its group when the parent process has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def find_attribute(name: str, *modules: str) -> Any:
    """The attribute `name` of the first of these modules that has it; commits have it in different modules."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise AttributeError(f"this commit has {name} in none of {', '.join(modules)}")


def shared(name: str, *modules: str) -> Any:
    """An attribute of a module that stages share: in a package of stages/study, or in stages for version 1."""
    packages = ("stages.study.records", "stages.study.provenance", "stages.study", "stages")
    return find_attribute(name, *(f"{package}.{module}" for module in modules for package in packages))


def train(job: dict[str, Any]) -> None:
    """Train the runs of a job, and copy each finished run to its folder."""
    from stages.train.plan import plan

    train_all = find_attribute("train_all", "stages.train.dispatch", "stages.train.schedule")
    recipe_class, run_path = shared("recipe_class", "families"), shared("run_path", "paths", "records")
    recipes, folders = {}, {}
    for run in job["runs"]:
        name, seed = run["variant"], run["seed"]
        folders[name, seed] = Path(run["folder"])
        seeds = 1 + max(other["seed"] for other in job["runs"] if other["variant"] == name)
        recipes[name] = recipe_class(run["fields"]["family"]).model_validate(run["fields"] | {"seeds": seeds})

    def keep(variant: str, seed: int) -> None:
        unfinished = folders[variant, seed].with_name(f".{seed}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(run_path(variant, seed), unfinished)
        shutil.rmtree(folders[variant, seed], ignore_errors=True)
        unfinished.rename(folders[variant, seed])

    images, labels = shared("read_images", "splits", "records")(shared("TRAIN", "paths", "records"))
    # Without data and split, no certificate of that commit counts: the runs get the keys of its own code.
    data, split = SimpleNamespace(model_dump=lambda **_: {}), SimpleNamespace(dev_fraction=None)
    study: Any = SimpleNamespace(recipe=recipes.__getitem__, data=data, split=split)
    planned = plan(study, list(recipes), images, labels, job["classes"])
    train_all([run for run in planned if (run.variant, run.seed) in folders], images, labels, on_finish=keep)


def evaluate(job: dict[str, Any]) -> None:
    """Evaluate the runs of a job; scores, calibration and labels are written beside each model."""
    import numpy as np
    import pandas as pd

    from stages.evaluate import scores

    recipe_class, csv_bytes = shared("recipe_class", "families"), shared("csv_bytes", "files")
    read_facts, read_model = (shared(name, "models", "records") for name in ("read_facts", "read_model"))
    predict, labels_of = (
        find_attribute(name, "stages.evaluate.outputs", "stages.evaluate.__main__") for name in ("predict", "labels_of")
    )
    images, truth = shared("read_images", "splits", "records")(shared("TEST", "paths", "records"))
    for run in job["runs"]:
        folder = Path(run["folder"])
        recipe = recipe_class(run["fields"]["family"])
        facts = read_facts(folder)
        output = predict(read_model(folder, facts), images)
        row = {"seed": run["seed"], "data": facts["digests"]["data"]}
        row |= {name: metric(output, truth) for name, metric in scores.metrics(recipe.probabilities).items()}
        row |= {name: facts[name] for name in recipe.facts}
        if "diverged" in facts:
            row["diverged"] = facts["diverged"]["epoch"]
        bins = scores.calibration(output, truth) if recipe.probabilities else pd.DataFrame()
        bins.insert(0, "seed", run["seed"])
        (folder / "calibration.csv").write_bytes(csv_bytes(bins))
        np.save(folder / "labels.npy", labels_of(output))
        (folder / "test.csv").write_bytes(csv_bytes(pd.DataFrame([row])))


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    job = json.load(sys.stdin)
    if job["evaluate"]:
        evaluate(job)
    else:
        train(job)
