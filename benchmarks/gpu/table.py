"""How fast lanes are: variants, numbers of lanes and forms of convolution, beside Keras's fit on the same device."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np

from benchmarks.gpu import networks
from stages.params import Network
from stages.train.executors.lanes import engine, programs

FIT_WARM_STEPS = 20
FORM_STEPS = 5  # of a call: a step of the slow forms can take seconds
SECONDS = 1.0  # of measuring, for each row


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    variant: str
    recipe: Network
    lanes: int
    convolution: str
    dropout: str = "bytes"

    @property
    def name(self) -> str:
        dropout = "" if self.dropout == "bytes" else f" dropout:{self.dropout}"
        return f"{self.variant} x {self.lanes} {self.convolution}{dropout}"

    @property
    def is_form(self) -> bool:
        """Whether it stands beside the other rows for its form alone, timed over few steps, without the dev images."""
        return self.convolution != "patches"

    def plan(self, training_images: int) -> list[programs.Stretch]:
        whole = programs.epoch_plan(training_images, self.recipe.batch_size)
        return [programs.Stretch(FORM_STEPS, self.recipe.batch_size, 1)] if self.is_form else whole


def cases(recipes: dict[str, Network], widths: Sequence[int], form_width: int) -> list[Case]:
    """In order of worth: the widths with the form that GPUs want, then the other forms at one width."""
    rows = [Case(v, r, lanes, "patches") for lanes in widths for v, r in recipes.items()]
    forms = [Case(v, r, form_width, form) for v, r in recipes.items() if r.filters for form in ("grouped", "loop")]
    draws = [Case(v, r, form_width, "patches", "keras") for v, r in recipes.items()]
    return rows + draws + forms


def compile_all(rows: Sequence[Case], images: np.ndarray, dev_fraction: float, threads: int) -> dict[str, Any]:
    """Compile the programs of all rows side by side.

    Returns: for each row's name the seconds that it took beside the others, or the error's first line.
    """

    def one(case: Case) -> Any:
        started = time.perf_counter()
        try:
            compiled = _compiled(case, images, dev_fraction)
        except jax.errors.JaxRuntimeError as error:
            return str(error).splitlines()[0]
        return {"compile_seconds": time.perf_counter() - started, "gib": engine.needed_bytes(compiled[0]) / 2**30}

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip([case.name for case in rows], pool.map(one, rows), strict=True))


def _compiled(case: Case, images: np.ndarray, dev_fraction: float) -> list[Any]:
    recipe = networks.shared(case.recipe, case.convolution, case.dropout)
    dev = networks.dev_images(case.recipe, len(images), dev_fraction)
    size, plan = case.recipe.batch_size, case.plan(len(images) - dev)
    return engine.compile_ahead(recipe, images, dev=dev, batch_size=size, width=case.lanes, plan=plan)


def measure(case: Case, images: np.ndarray, labels: np.ndarray, dev_fraction: float) -> dict[str, float]:
    """Seconds of an epoch of all lanes: the training steps timed for some seconds, the look at the dev images once."""
    shared = networks.shared(case.recipe, case.convolution, case.dropout)
    lane = networks.lanes(case.recipe, [0], len(images), dev_fraction)[0]
    with ThreadPoolExecutor(engine.ORDER_THREADS) as pool:
        batch = engine.Batch(shared, images, labels, case.recipe.batch_size, pool)
        courses = [engine.Course(i, lane, engine.orders_of(lane, len(images))) for i in range(case.lanes)]
        batch.begin(courses, case.lanes)
        stretch = case.plan(len(images) - engine.set_aside(lane))[0]
        batch.train_stretch(stretch, programs.zero_sums(case.lanes), 0)
        jax.block_until_ready(batch.state)
        calls, started = 0, time.perf_counter()
        while not calls or time.perf_counter() - started < SECONDS:
            batch.train_stretch(stretch, programs.zero_sums(case.lanes), 0)
            jax.block_until_ready(batch.state)
            calls += 1
        step = (time.perf_counter() - started) / calls / stretch.steps
        dev = 0.0 if case.is_form else _dev_seconds(batch)
    steps = -(-(len(images) - engine.set_aside(lane)) // case.recipe.batch_size)
    flops = networks.step_flops(shared.model, case.recipe.batch_size) * case.lanes
    return {
        "step_ms": 1e3 * step,
        "dev_seconds": dev,
        "epoch_seconds": steps * step + dev,
        "tflops": flops / step / 1e12,
    }


def _dev_seconds(batch: Any) -> float:
    if not batch.dev_images:
        return 0.0
    jax.block_until_ready(batch.score_dev())
    started = time.perf_counter()
    jax.block_until_ready(batch.score_dev())
    return time.perf_counter() - started


def fit_epoch(recipe: Network, images: np.ndarray, labels: np.ndarray, dev_fraction: float) -> dict[str, float]:
    """Seconds of an epoch of Keras's fit as people write it, compiled before."""
    model = networks.build(recipe, 0)
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    dev = networks.dev_images(recipe, len(images), dev_fraction)
    count = len(images) - dev
    looks: dict[str, Any] = {"validation_data": (images[count:], labels[count:])} if dev else {}
    settings: dict[str, Any] = {"batch_size": recipe.batch_size, "epochs": 1, "verbose": 0, **looks}
    warm = FIT_WARM_STEPS * recipe.batch_size
    started = time.perf_counter()
    model.fit(images[:warm], labels[:warm], **settings)
    compiled = time.perf_counter() - started
    started = time.perf_counter()
    model.fit(images[:count], labels[:count], **settings)
    return {"first_seconds": compiled, "epoch_seconds": time.perf_counter() - started}
