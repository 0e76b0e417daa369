"""Many seeds of every variant: trained and evaluated in batches on the device, with the files of evaluation."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.gpu.results import Results
from stages.evaluate.ensemble import ensemble
from stages.evaluate.previous import PreviousEvaluation
from stages.evaluate.run import evaluated_run
from stages.evaluate.stage import gather
from stages.recipes.shared.epochs import run_facts
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import NOT_RECORDED, write_results
from stages.study.records.splits import read_classes, read_images
from stages.train.executors import batched_seeds
from stages.train.executors.batched_seeds import batches, engine
from stages.train.plan import evaluated_keys, plan
from stages.train.run import Run

TEST_BLOCK = 500  # test images at a time
TEST_LANES = 16

MLP_LANES, CNN_LANES = 256, 64  # of a batch, at most

# Variants that share their programs stand side by side. The chain of the MLPs has the cheapest seeds and the most
# steps; then the CNNs, those whose seeds cost most last.
ORDER = (
    ("mlp_reference",),
    ("mlp_1_wider", "mlp_2_ten_epochs"),
    ("mlp_6_batch_128", "mlp_tuned"),
    ("mlp_8_batch_512",),
    ("mlp_3_early_stopping", "mlp_4_lower_rate", "mlp_5_glorot"),
    ("cnn_3_pool_first", "cnn_4_ten_epochs"),
    ("cnn_2_dropout",),
    ("cnn_reference",),
    ("cnn_tuned",),
    ("cnn_5_early_stopping", "cnn_6_schedule"),
)


def train(study: Params, results: Results) -> None:
    """Train, evaluate and keep every run of `study` that metrics/runs lacks, batch by batch."""
    images, labels = read_images(paths.TRAIN)
    host = threading.Thread(target=_ridge, args=(study, results))
    host.start()
    networks = [name for group in ORDER for name in group]
    runs = plan(study, networks, images, labels, len(read_classes(paths.TRAIN)))
    groups = [group for runs_of_line in _lines(runs) for group in _groups(runs_of_line, images)]
    waited = time.perf_counter()
    for batch in batches.prepared(groups, images):
        started = time.perf_counter()
        finished = dict(batches.train_lanes(batch, images, labels, None))
        trained = time.perf_counter()
        _evaluate(study, batch, finished)
        results.keep("runs.zip", paths.RUNS)
        took = {
            "lanes": len(batch.lanes),
            "width": batch.width,
            "epochs": sum(len(run.curve) for run in finished.values()),
            "waited_seconds": started - waited,
            "train_seconds": trained - started,
            "evaluate_seconds": time.perf_counter() - trained,
        }
        seeds = sorted({run.seed for run in batch.runs})
        results.note("batches", f"{batches.names(batch.runs)} seeds {seeds[0]}-{seeds[-1]}", took)
        waited = time.perf_counter()
    host.join()
    results.keep("runs.zip", paths.RUNS)


def _lines(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The runs that are to be trained, batch by batch: of each line of ORDER, seed by seed."""
    known = evaluated_keys({run.variant for run in runs})
    for group in ORDER:
        lacking = [run for run in runs if run.variant in group and run.key not in known]
        lacking.sort(key=lambda run: run.seed)
        most = (MLP_LANES if group[0].startswith("mlp") else CNN_LANES) // len(group) * len(group)
        yield from (lacking[first : first + most] for first in range(0, len(lacking), most))


def _groups(runs: list[Run], images: np.ndarray) -> list[batches.Group]:
    groups, failed = batches.groups_of(runs, images)
    assert not failed, failed
    return groups


def _evaluate(study: Params, batch: batches.PreparedBatch, finished: dict[int, engine.FinishedLane]) -> None:
    """Add the runs of a batch to what metrics/runs has of their variants."""
    images, truth = read_images(paths.TEST)
    scored_by = environments.installed("evaluate", "network")
    for variant in dict.fromkeys(run.variant for run in batch.runs):
        places = [i for i, run in enumerate(batch.runs) if run.variant == variant]
        weights = [finished[i].weights or [] for i in places]
        outputs = engine.predict(batch.shared, weights, images, width=TEST_LANES, block=TEST_BLOCK)
        first = batch.runs[places[0]].seed
        identity = variant_identity(study.recipe(variant), study)
        previous = PreviousEvaluation(variant, identity, images, truth, scored_by)
        kept = [before for seed in range(first) if (before := previous.run(seed))]
        assert len(kept) == first
        curves = [files.read_table(paths.curves_path(variant), ["seed", *study.recipe(variant).curve])] if kept else []
        for i, output in zip(places, outputs, strict=True):
            run = batch.runs[i]
            facts: dict[str, Any] = {**run_facts(finished[i].curve, finished[i].best_epoch)}
            digests = {**run.digests, "model": NOT_RECORDED}  # no model is kept here
            facts |= {"key": run.key, "digests": digests, "versions": run.versions}
            kept.append(evaluated_run(run.recipe, run.seed, facts, output, truth, scored_by))
            curve = pd.DataFrame(finished[i].curve, columns=run.recipe.curve)
            curve.insert(0, "seed", run.seed)
            curves.append(curve)
        new = dict(zip((batch.runs[i].seed for i in places), outputs, strict=True))
        voting = ensemble(len(kept), new, previous.results, set(range(first)).__contains__, new.__getitem__)
        write_results(gather(variant, kept, images, truth, voting, None))
        files.write_table(paths.curves_path(variant), pd.concat(curves))


def _ridge(study: Params, results: Results) -> None:
    """What is no network, on the machine's own cores."""
    started = time.perf_counter()
    environment = {"STUDY_EXECUTOR": "processes", "JAX_PLATFORMS": "cpu", "STUDY_WORKERS": str(_spare_cores())}
    environment["STUDY_REUSE"] = "1"
    for variant in (name for name in study.variants if not batched_seeds.takes(study.recipe(name))):
        for stage in ("train", "evaluate"):
            run([sys.executable, "-m", f"stages.{stage}", variant], environment)
        results.note("host", variant, {"seconds": time.perf_counter() - started})


def _spare_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 4)


def run(command: Sequence[str], environment: dict[str, str]) -> None:
    code = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run(command, check=True, env={**os.environ, **code, **environment}, cwd=Path.cwd())
