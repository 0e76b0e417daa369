"""Many seeds of every variant: trained as lanes and looked at on the device, with the files that evaluation writes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gpu.results import Results
from stages import files, records
from stages.evaluate import __main__ as evaluation
from stages.params import Params
from stages.train.executors import lanes
from stages.train.executors.lanes import batches, engine
from stages.train.plan import plan

TEST_BLOCK = 500  # test images at a time
TEST_LANES = 16

# Variants that share their programs train side by side. The chain of the MLPs has the cheapest seeds and the most
# steps; then the CNNs, those whose seeds cost most last.
ORDER = (
    *("mlp_reference", "mlp_1_wider", "mlp_2_ten_epochs", "mlp_6_batch_128", "mlp_tuned", "mlp_8_batch_512"),
    *("mlp_3_early_stopping", "mlp_4_lower_rate", "mlp_5_glorot"),
    *("cnn_3_pool_first", "cnn_4_ten_epochs", "cnn_2_dropout", "cnn_reference"),
    *("cnn_tuned", "cnn_5_early_stopping", "cnn_6_schedule"),
)


def train(study: Params, results: Results) -> None:
    """Train, evaluate and keep every run of `study`, batch by batch."""
    images, labels = records.read_images(records.TRAIN)
    host = threading.Thread(target=_ridge, args=(study, results))
    host.start()
    networks = sorted(filter(lambda name: lanes.takes(study.recipe(name)), study.variants), key=_place)
    runs = plan(study, networks, images, labels, len(records.read_classes(records.TRAIN)))
    groups, failed = batches.groups_of(runs, images)
    assert not failed, failed
    waited = time.perf_counter()
    for batch in batches.ready(groups, images):
        started = time.perf_counter()
        finished = dict(batches.trained_lanes(batch, images, labels, None))
        trained = time.perf_counter()
        _evaluate(study, batch, finished)
        results.keep("runs.zip", records.RUNS)
        took = {
            "lanes": len(batch.lanes),
            "width": batch.width,
            "epochs": sum(len(run.curve) for run in finished.values()),
            "waited_seconds": started - waited,
            "train_seconds": trained - started,
            "evaluate_seconds": time.perf_counter() - trained,
        }
        results.note("batches", batches.names(batch.runs), took)
        waited = time.perf_counter()
    host.join()
    results.keep("runs.zip", records.RUNS)


def _place(variant: str) -> int:
    return ORDER.index(variant) if variant in ORDER else len(ORDER)


def _evaluate(study: Params, batch: batches.Ready, finished: dict[int, engine.Finished]) -> None:
    images, truth = records.read_images(records.TEST)
    for variant in dict.fromkeys(run.variant for run in batch.runs):
        places = [i for i, run in enumerate(batch.runs) if run.variant == variant]
        weights = [finished[i].weights or [] for i in places]
        outputs = engine.predict(batch.shared, weights, images, width=TEST_LANES, block=TEST_BLOCK)
        evaluated, curves = [], []
        for i, output in zip(places, outputs, strict=True):
            run, facts = batch.runs[i], batches.facts_of(finished[i])
            facts |= {"key": run.key, "digests": run.digests}
            evaluated.append(evaluation.evaluated(run.recipe, run.seed, facts, output, truth))
            curve = pd.DataFrame(finished[i].curve, columns=run.recipe.curve)
            curve.insert(0, "seed", run.seed)
            curves.append(curve)
        evaluation.write(variant, evaluated, images, truth, _vote(outputs))
        files.write_table(records.curves_path(variant), pd.concat(curves))


def _vote(outputs: np.ndarray) -> dict[str, np.ndarray]:
    voters = min(evaluation.VOTERS, len(outputs))
    return {"ensemble": evaluation.labels_of(outputs[:voters].mean(axis=0)), "voters": np.array(voters)}


def _ridge(study: Params, results: Results) -> None:
    """What is no network, on the machine's own cores."""
    started = time.perf_counter()
    environment = {"STUDY_EXECUTOR": "processes", "JAX_PLATFORMS": "cpu", "STUDY_WORKERS": str(_spare_cores())}
    for variant in (name for name in study.variants if not lanes.takes(study.recipe(name))):
        for stage in ("train", "evaluate"):
            run([sys.executable, "-m", f"stages.{stage}", variant], environment)
        results.note("host", variant, {"seconds": time.perf_counter() - started})


def _spare_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 4)


def run(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, **environment}, cwd=Path.cwd())
