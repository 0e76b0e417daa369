"""Validation scores of candidate recipes, from which a recipe is chosen without the test images.

`python -m benchmarks.candidates [NAME …]` trains the recipes of benchmarks/candidates.yaml with seeds from 200 on,
which no comparison uses. It needs the data (`dvc repro split`). Each run is written to benchmarks/candidates.csv when
it ends; if the command is stopped, run it again to continue.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.process import require_data
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.training import backend
from stages.study import files, params, paths
from stages.study.provenance import families
from stages.study.provenance.environments import installed_versions
from stages.study.records.splits import read_classes, read_images, read_validation
from stages.train.executors import processes
from stages.train.progress import Progress
from stages.train.run import Failed, Run, train_run

FIRST_SEED = 200
CANDIDATES = Path(__file__).with_name("candidates.yaml")
SCORES = Path(__file__).with_name("candidates.csv")
COLUMNS = ["candidate", "seed", "key", "epochs", "best_epoch", "dev_loss", "dev_accuracy", "seconds"]


def read_candidates(path: Path) -> dict[str, Recipe]:
    """The recipes of a file like the `variants` of params.yaml.

    Raises:
        UserError: one of them is not valid, or has no validation score.
    """
    complaints: list[str] = []
    values = files.yaml_values(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} should have a recipe for each name, received {values!r}")
    found = params.recipes(values, complaints)
    complaints += [
        f"  {name}: should be a network with dev_split: true, which its score comes from"
        for name, recipe in found.items()
        if not recipe.uses_validation or "dev_accuracy" not in recipe.facts
    ]
    if complaints:
        raise UserError(f"{path} is not valid:\n" + "\n".join(complaints))
    return found


def planned(candidates: dict[str, Recipe], images: np.ndarray, labels: np.ndarray) -> list[Run]:
    """Every run of `candidates`, the first seed of each before the second of any."""
    data, classes = files.digest(images, labels), len(read_classes(paths.TRAIN))
    versions = installed_versions(backend())
    runs = []
    for name, recipe in candidates.items():
        code = families.code_digest(recipe.family)
        for seed in range(FIRST_SEED, FIRST_SEED + recipe.seeds):
            dev = read_validation(seed)
            digests = {"data": data, "code": code, "dev": files.digest(dev)}
            runs.append(Run(name, recipe, seed, classes, dev, "processes", digests, versions))
    return sorted(runs, key=lambda run: run.seed)


def train(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """`rows` and one for each of `runs`, in place of a former one of its seed, written to `path` as each run ends.

    Raises:
        UserError: some run failed; the others are in the file.
    """
    failures = []
    with (
        processes.training(runs, images, labels, train_run) as (results, under_way),
        Progress(len(runs), under_way) as progress,
    ):
        for result in results:
            if isinstance(result, Failed):
                failures.append(f"{result.run.name}: {result.reason}")
                continue
            row = {"candidate": result.run.variant, **result.facts}
            former = (rows["candidate"] == row["candidate"]) & (rows["seed"] == row["seed"])
            rows = pd.concat([rows[~former], pd.DataFrame([row])[COLUMNS]]).sort_values(["candidate", "seed"])
            files.write_table(path, rows)
            progress.finish(result)
    if failures:
        raise UserError("some runs failed, the others are kept:\n" + "\n".join(failures))
    return rows


def as_text(rows: pd.DataFrame) -> str:
    """A line for each candidate, the best first: its seeds, validation accuracy, epochs and seconds of a run."""
    groups = rows.groupby("candidate")
    table = groups.agg(
        seeds=("seed", "size"),
        dev_accuracy=("dev_accuracy", "mean"),
        dev_loss=("dev_loss", "mean"),
        epochs=("epochs", "mean"),
        seconds=("seconds", "mean"),
    )
    return str(table.sort_values("dev_accuracy", ascending=False).round(5).to_string())


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.candidates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="candidates (default: all)")
    names = parser.parse_args().names
    candidates = read_candidates(CANDIDATES)
    if unknown := set(names) - set(candidates):
        raise UserError(f"{CANDIDATES.name} has {', '.join(candidates)}; received {', '.join(sorted(unknown))}")
    require_data()
    images, labels = read_images(paths.TRAIN)
    runs = planned(candidates, images, labels)
    rows = files.read_table(SCORES, COLUMNS) if SCORES.exists() else pd.DataFrame(columns=COLUMNS)
    missing = [run for run in runs if run.key not in set(rows["key"]) and run.variant in (names or candidates)]
    if missing:
        rows = train(missing, images, labels, rows, SCORES)
    current = rows["key"].isin([run.key for run in runs])
    print(as_text(rows[current]))
    if others := len(rows) - current.sum():
        print(f"{others} runs of {SCORES.name} are of other recipes, code or library versions")


if __name__ == "__main__":
    main()
