"""The speed of batched seeds by variant and number of lanes, compared with Keras's fit on the same device.

A second table compares the forms of convolutions.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np
import pandas as pd

from benchmarks.gpu.forms import FORMS, TODAYS
from benchmarks.gpu.results import Results
from stages.recipes.network import Recipe
from stages.recipes.shared.models import layer_seeds
from stages.study import paths
from stages.study.params import Params
from stages.study.records.splits import read_images
from stages.train.executors.batched_seeds import batches, engine, programs
from stages.train.plan import plan
from stages.train.run import Run

VARIANTS = ("mlp_tuned", "mlp_reference", "cnn_tuned", "cnn_reference")
WIDTHS = (64, 256, 10, 1)  # the goals first
FORM_LANES = 64  # where the device is busy
SIDE_BY_SIDE = 4  # rows that are compiled at once
FIT_WARM_STEPS = 20
SECONDS = 1.0  # of measuring, for each row


@dataclass(frozen=True)
class Case:
    """A row of a table: as many lanes of one run, with convolutions in a form of `FORMS`, by name."""

    run: Run
    recipe: Recipe
    lanes: int
    form: str = TODAYS

    @property
    def name(self) -> str:
        return f"{self.run.variant} x {self.lanes}"

    @property
    def validation(self) -> int:
        return 0 if self.run.validation is None else len(self.run.validation)

    def plan(self, images: int) -> list[programs.Stretch]:
        return programs.epoch_plan(images - self.validation, self.recipe.batch_size)


def cases(runs: Sequence[Run], widths: Sequence[int]) -> list[Case]:
    """The rows of the table, the most important widths first."""
    networks = [(run, run.recipe) for run in runs if isinstance(run.recipe, Recipe)]
    return [Case(run, recipe, lanes) for lanes in widths for run, recipe in networks]


def form_cases(runs: Sequence[Run], lanes: int) -> list[Case]:
    """The rows of the table of forms: each convolutional run in each form."""
    convolutional = [case for case in cases(runs, [lanes]) if case.recipe.filters]
    return [dataclasses.replace(case, form=form) for case in convolutional for form in FORMS]


def measure_all(study: Params, results: Results, small: bool) -> None:
    """Both tables; what is there already stays."""
    images, labels = read_images(paths.TRAIN)
    runs = [run for run in plan(study, VARIANTS, images, labels, int(labels.max()) + 1) if run.seed == 0]
    measured = runs[:1] if small else runs
    for run in measured:
        if not results.has("fit", run.variant):
            results.note("fit", run.variant, fit_epoch(run, images, labels))

    def row(case: Case) -> dict[str, float]:
        fit, device = results.facts["fit"][case.run.variant]["epoch_seconds"], results.facts["device"]["facts"]
        return _row(case, images, labels, fit, device)

    rows = {case.name: case for case in cases(measured, (2, 1) if small else WIDTHS)}
    _measure_rows("lanes", rows, images, row, results)
    forms = form_cases(runs, 2)[: len(FORMS)] if small else form_cases(runs, FORM_LANES)
    rows = {f"{case.name}: {case.form}": case for case in forms}
    _measure_rows("forms", rows, images, lambda case: measure(case, images, labels), results)


def _measure_rows(
    part: str,
    rows: dict[str, Case],
    images: np.ndarray,
    row: Callable[[Case], dict[str, float]],
    results: Results,
) -> None:
    """Compile a few rows at once, then measure one after the other.

    Args:
        part: of the results.
        rows: by their names in the results.
        images: uint8 [n, height, width].
        row: measures one.
        results: get each row as soon as it is measured.
    """
    missing = [(name, case) for name, case in rows.items() if not results.has(part, name)]
    for first in range(0, len(missing), SIDE_BY_SIDE):
        some = missing[first : first + SIDE_BY_SIDE]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            compiled = list(pool.map(lambda item: _or_error(_compiled, item[1], images), some))
        for (name, case), costs in zip(some, compiled, strict=True):
            results.note(part, name, costs | ({} if "error" in costs else _or_error(row, case)))


def _or_error(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What the function returns, or what the device had against it, memory above all: the other rows go on."""
    try:
        return function(*args)
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}


def _compiled(case: Case, images: np.ndarray) -> dict[str, float]:
    started = time.perf_counter()
    size, steps = case.recipe.batch_size, case.plan(len(images))
    programs_of = engine.compile_ahead(
        _shared(case, images), images, validation=case.validation, batch_size=size, width=case.lanes, plan=steps
    )
    return {"compile_seconds": time.perf_counter() - started, "gib": engine.needed_bytes(programs_of[0]) / 2**30}


def _shared(case: Case, images: np.ndarray) -> programs.Shared:
    shared = batches.shared_of(case.run, images, FORMS[case.form])
    assert isinstance(shared, programs.Shared), shared
    return shared


def _row(case: Case, images: np.ndarray, labels: np.ndarray, fit: float, device: dict[str, Any]) -> dict[str, float]:
    found = measure(case, images, labels)
    epochs = mean_epochs(case.run.variant)
    return {
        **found,
        "seeds_per_minute": 60 * case.lanes / (found["epoch_seconds"] * epochs),
        "fit_seeds_per_minute": 60 / (fit * epochs),
        "ratio_to_fit": fit * case.lanes / found["epoch_seconds"],
        "share_of_peak": found["tflops"] / device["tflops"]["float32"],
    }


def mean_epochs(variant: str) -> float:
    """Of the study's committed runs."""
    from benchmarks.gpu.__main__ import ROOT

    return float(pd.read_csv(ROOT / paths.scores_path(variant))["epochs"].mean())


def measure(case: Case, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Seconds of an epoch of all lanes: the training steps timed for some seconds, the validation once."""
    shared, size = _shared(case, images), case.recipe.batch_size
    model = case.recipe.build(images.shape[1:], case.run.classes, layer_seeds(0))
    lane = batches.lane_of(case.run, model)
    with ThreadPoolExecutor(engine.ORDER_THREADS) as pool:
        batch = engine.Batch(shared, images, labels, size, pool)
        batch.start([engine.start_lane(i, lane, len(images)) for i in range(case.lanes)], case.lanes)
        batch.rates = batch.rates_of_epoch()
        stretch = case.plan(len(images))[0]
        step = _seconds_of_step(batch, stretch)
        validation = _validation_seconds(batch)
    steps = math.ceil((len(images) - case.validation) / size)
    return {
        "step_ms": 1e3 * step,
        "dev_seconds": validation,
        "epoch_seconds": steps * step + validation,
        "tflops": step_flops(shared.model, size) * case.lanes / step / 1e12,
    }


def _seconds_of_step(batch: engine.Batch, stretch: programs.Stretch) -> float:
    def once() -> None:
        batch.train_stretch(stretch, programs.zero_sums(batch.width), 0, 0)
        jax.block_until_ready(batch.state)

    once()
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < SECONDS:
        once()
        calls += 1
    return (time.perf_counter() - started) / calls / stretch.steps


def _validation_seconds(batch: engine.Batch) -> float:
    if not batch.validation_images:
        return 0.0
    jax.block_until_ready(batch.score_validation())
    started = time.perf_counter()
    jax.block_until_ready(batch.score_validation())
    return time.perf_counter() - started


def step_flops(model: Any, batch_size: int) -> float:
    """Of the matrix products of one training step: forward, and both gradients (the first layer has one)."""
    first, total = True, 0.0
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            continue
        places = np.prod(layer.output.shape[1:-1]) if isinstance(layer, keras.layers.Conv2D) else 1
        total += 2 * float(np.prod(layer.kernel.shape)) * float(places) * batch_size * (2 if first else 3)
        first = False
    return total


def fit_epoch(run: Run, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Seconds of an epoch of Keras's fit as people write it, compiled before."""
    recipe = run.recipe
    assert isinstance(recipe, Recipe)
    model = recipe.build(images.shape[1:], run.classes, layer_seeds(0))
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    count = len(images) - (0 if run.validation is None else len(run.validation))
    looks: dict[str, Any] = {"validation_data": (images[count:], labels[count:])} if count < len(images) else {}
    settings: dict[str, Any] = {"batch_size": recipe.batch_size, "epochs": 1, "verbose": 0, **looks}
    warm = FIT_WARM_STEPS * recipe.batch_size
    started = time.perf_counter()
    model.fit(images[:warm], labels[:warm], **settings)
    compiled = time.perf_counter() - started
    started = time.perf_counter()
    model.fit(images[:count], labels[:count], **settings)
    return {"first_seconds": compiled, "epoch_seconds": time.perf_counter() - started}
