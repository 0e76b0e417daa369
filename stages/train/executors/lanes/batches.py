"""Runs of a study as batches of lanes, and lanes back into runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np

from many_seeds.errors import UserError
from stages.recipes.shared import optimizers
from stages.recipes.shared.augmentation import Augmenter
from stages.recipes.shared.models import built_twice, layer_seeds
from stages.recipes.shared.passes import augmenter_seed
from stages.recipes.shared.saved import model_bytes
from stages.recipes.shared.trained import Trained as TrainedRecipe
from stages.train.executors.lanes import engine
from stages.train.executors.lanes.engine import Finished, Lane
from stages.train.executors.lanes.programs import Augment, Shared
from stages.train.run import Failed, Run, Trained, trained

AHEAD = 3  # batches that are made ready while one trains

Group = tuple[Shared, list[Run]]  # what their lanes have in common, and the runs


@dataclass(frozen=True)
class Ready:
    """Runs that share their programs, ready to train.

    shared: what they have in common. runs, models, lanes: of each. width: lanes at a time.
    """

    shared: Shared
    runs: list[Run]
    models: list[keras.Model]
    lanes: list[Lane]
    batch_size: int
    width: int


class Batches:
    """All runs on their way through the device."""

    def __init__(self, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray) -> None:
        self._runs, self._images, self._labels = runs, images, labels
        self._said = ""

    def under_way(self) -> str:
        return self._said

    def results(self) -> Iterator[Trained | Failed]:
        groups, failed = groups_of(self._runs, self._images)
        yield from failed
        for batch in ready(groups, self._images):
            yield from self._trained(batch)

    def _trained(self, batch: Ready) -> Iterator[Trained | Failed]:
        started_at, started = time.time(), time.perf_counter()
        epochs: dict[int, int] = {}

        def on_epoch(lane: int, row: dict[str, float]) -> None:
            epochs[lane] = int(row["epoch"]) + 1
            self._said = f"{len(batch.lanes)} lanes of {names(batch.runs)}, epoch {max(epochs.values())}"

        for lane, finished in trained_lanes(batch, self._images, self._labels, on_epoch):
            seconds = (time.perf_counter() - started) / len(batch.lanes)  # each lane has its share of the device
            taken = {"started": round(started_at, 3), "seconds": round(seconds, 3), "lanes": len(batch.lanes)}
            yield _result(batch.runs[lane], batch.models[lane], finished, taken)


def ready(groups: Sequence[Group], images: np.ndarray) -> Iterator[Ready]:
    """The groups as batches, in turn, each made ready while others train."""
    with ThreadPoolExecutor(AHEAD) as pool:
        coming: list[Future[Ready]] = []
        for i in range(len(groups)):
            while len(coming) < min(len(groups), i + 1 + AHEAD):
                coming.append(pool.submit(_prepared, groups[len(coming)], images))
            yield coming[i].result()


def trained_lanes(
    batch: Ready, images: np.ndarray, labels: np.ndarray, on_epoch: Callable[[int, dict[str, float]], None] | None
) -> Iterator[tuple[int, Finished]]:
    """Train a batch: as `engine.train`."""
    return engine.train(
        batch.shared,
        batch.lanes,
        images,
        labels,
        batch_size=batch.batch_size,
        width=batch.width,
        on_epoch=on_epoch,
    )


def facts_of(finished: Finished) -> dict[str, Any]:
    """What a run tells of itself, as `Trained.facts` names it."""
    row = finished.curve[finished.best_epoch]
    scores = {"dev_loss": row.get("val_loss"), "dev_accuracy": row.get("val_accuracy")}
    return {"epochs": len(finished.curve), "best_epoch": finished.best_epoch, **scores}


def names(runs: Sequence[Run]) -> str:
    return ", ".join(dict.fromkeys(run.variant for run in runs))


def _result(run: Run, model: keras.Model, finished: Finished, taken: dict[str, Any]) -> Trained | Failed:
    if finished.weights is None:
        return Failed(run, str(finished.failure))
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        model.set_weights([np.asarray(weight) for weight in finished.weights])
        content = model_bytes(model)
    facts = {**facts_of(finished), "device": jax.local_devices()[0].device_kind, **taken}
    return trained(run, content, finished.curve, facts)


def groups_of(runs: Sequence[Run], images: np.ndarray) -> tuple[list[Group], list[Failed]]:
    """Runs by what their batch has in common, in their order; and those whose model can't be built."""
    shared: dict[str, Shared | str] = {}
    groups: dict[tuple[str, int, int], Group] = {}
    failed = []
    for run in runs:
        if run.variant not in shared:
            shared[run.variant] = shared_of(run, images)
        common = shared[run.variant]
        if isinstance(common, str):
            failed.append(Failed(run, common))
            continue
        key = common.identity, _recipe(run).batch_size, 0 if run.dev is None else len(run.dev)
        groups.setdefault(key, (common, []))[1].append(run)
    return list(groups.values()), failed


def shared_of(run: Run, images: np.ndarray, convolution: str = "patches") -> Shared | str:
    """What the lanes of a variant have in common, or why there can be none."""
    recipe = _recipe(run)
    try:
        model, _ = built_twice(recipe.build, images, run.classes, run.seed)
        optimizer = optimizers.build(recipe.optimizer, recipe.average)
        return Shared(
            model,
            optimizer,
            smoothing=recipe.label_smoothing,
            convolution=convolution,
            augment=_augment(recipe, images.shape[1:3]),
            augment_name=str(recipe.augment),
        )
    except UserError as error:
        return str(error)


def _recipe(run: Run) -> TrainedRecipe:
    assert isinstance(run.recipe, TrainedRecipe)
    return run.recipe


def _augment(recipe: TrainedRecipe, size: tuple[int, ...]) -> Augment | None:
    if recipe.augment is None:
        return None
    augmenter = Augmenter(recipe.augment, size, seed=0)

    def augment(images: jax.Array, key: jax.Array) -> jax.Array:
        with keras.StatelessScope(state_mapping=[(augmenter.seed_generator.state, key)]):
            return augmenter(images)

    return augment


def _prepared(group: Group, images: np.ndarray) -> Ready:
    """Initial values of all lanes, made by the CPU, and the programs that they need."""
    shared, runs = group
    batch_size = _recipe(runs[0]).batch_size
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        models = [_recipe(run).build(images.shape[1:], run.classes, layer_seeds(run.seed)) for run in runs]
        lanes = [lane_of(run, model) for run, model in zip(runs, models, strict=True)]
    dev = engine.set_aside(lanes[0])
    width = engine.fitting_width(shared, len(lanes), images, dev=dev, batch_size=batch_size)
    engine.compile_ahead(shared, images, dev=dev, batch_size=batch_size, width=width)
    return Ready(shared, runs, models, lanes, batch_size, width)


def lane_of(run: Run, model: keras.Model) -> Lane:
    recipe = _recipe(run)
    return Lane(
        seed=run.seed,
        variables=[np.asarray(variable) for variable in model.variables],
        dev=run.dev,
        rates=recipe.rates(),
        epochs=recipe.epochs,
        patience=recipe.patience,
        restore_best=recipe.restore_best,
        augmenter_seed=augmenter_seed(run.seed),
    )
