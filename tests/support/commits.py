"""Commits of a study with synthetic results."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stages.study import files, paths
from stages.study.records.results import RUN_COLUMNS
from tests.support import pipeline

NETWORK = {name: value for name, value in pipeline.NETWORK.items() if name != "seeds"}
RIDGE = {"family": "ridge", "grid_powers": [-10, 13], "tolerance": 0.1}
NOISE = np.array([0, 3, 1, 4, 2, 0, 3, 1, 4, 2])  # of 200 digits
MANY = list(range(10))
IMAGES = 200
SEEDS = [0, 1, 2]
STATISTICS = {"confidence": 0.95, "equivalence_margin": 0.05, "reproduction_margin": 0.1, "design": "fixed"}


def write_study(
    seeds: Sequence[int] = SEEDS, statistics: dict[str, Any] = STATISTICS, **variants: dict[str, Any]
) -> None:
    study = {
        "data": {"name": "digits"},
        "split": {"dev_fraction": 0.2, "seeds": 16},
        "variants": {name: {"seeds": len(seeds), **recipe} for name, recipe in variants.items()},
        "approaches": {"first": next(iter(variants))},
        "comparisons": [],
        "chains": {},
        "statistics": statistics,
    }
    with Path("params.yaml").open("w") as file:
        YAML().dump(study, file)


def write_runs(
    variant: str,
    wrong: Sequence[int],
    key: str = "first",
    seeds: Sequence[int] = SEEDS,
    data: str = "d",
    truth: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> None:
    """Write the results of a variant with a number of errors in each seed.

    Args:
        variant: its name.
        wrong: for each seed, the number of the 200 digits that it classifies incorrectly.
        key: the first part of the keys of the runs.
        seeds: the seeds.
        data: the digest of the training data.
        truth: labels [200]; None for the default ones.
        groups: of the digits, int [200]; None for none.
    """
    truth = np.arange(IMAGES, dtype=np.uint8) % 10 if truth is None else truth
    labels = np.tile(truth, (len(seeds), 1))
    for row, errors in enumerate(wrong):
        labels[row, :errors] = (labels[row, :errors] + 1) % 10
    scores = pd.DataFrame({"seed": seeds}).reindex(columns=[*RUN_COLUMNS, "test_loss", "test_accuracy"])
    scores = scores.assign(key=[f"{key}{seed}" for seed in seeds], data=data, test_loss=0.5)
    scores["test_accuracy"] = (labels == truth).mean(axis=1)
    files.write_table(paths.scores_path(variant), scores)
    more = {} if groups is None else {"groups": groups}
    files.write_arrays(paths.predictions_path(variant), compressed=False, labels=labels, truth=truth, **more)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit(tag: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", tag)
    git("tag", tag)
