"""Group the runs of a study into batches, train the batches, and turn their lanes back into runs."""

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
from stages.recipes.shared.epochs import run_facts
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.models import build_and_check, layer_seeds
from stages.recipes.shared.passes import augmenter_seed
from stages.recipes.shared.recipe import DivergedError
from stages.recipes.shared.saved import model_bytes
from stages.train import diverged
from stages.train.executors.batched_seeds import engine
from stages.train.executors.batched_seeds.engine import FinishedLane, Lane
from stages.train.executors.batched_seeds.forms import TODAY, Forms
from stages.train.executors.batched_seeds.programs import Augment, Shared
from stages.train.run import Failed, Run, Trained, trained

AHEAD = 3  # batches that are prepared while one trains

Group = tuple[Shared, list[Run]]  # what runs have in common, and the runs


@dataclass(frozen=True)
class PreparedBatch:
    """Runs that share their programs, ready to train.

    Attributes:
        shared: what they have in common.
        runs: the runs.
        models: of each run.
        lanes: of each run.
        batch_size: the number of images in a step.
        width: the number of lanes that train at a time.
    """

    shared: Shared
    runs: list[Run]
    models: list[keras.Model]
    lanes: list[Lane]
    batch_size: int
    width: int


class Batches:
    """All runs of a study, trained batch by batch."""

    def __init__(self, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray) -> None:
        self._runs, self._images, self._labels = runs, images, labels
        self._progress = ""

    def under_way(self) -> str:
        return self._progress

    def results(self) -> Iterator[Trained | Failed]:
        groups, failed = groups_of(self._runs, self._images)
        yield from failed
        for batch in prepared(groups, self._images):
            yield from self._train(batch)

    def _train(self, batch: PreparedBatch) -> Iterator[Trained]:
        started_at, started = time.time(), time.perf_counter()
        epochs: dict[int, int] = {}

        def on_epoch(lane: int, row: dict[str, float]) -> None:
            epochs[lane] = int(row["epoch"]) + 1
            self._progress = f"{len(batch.lanes)} seeds of {names(batch.runs)}, epoch {max(epochs.values())}"

        for lane, finished in train_lanes(batch, self._images, self._labels, on_epoch):
            # Each lane has an equal share of the device's time.
            seconds = (time.perf_counter() - started) / len(batch.lanes)
            measured = {"started": round(started_at, 3), "seconds": round(seconds, 3), "lanes": len(batch.lanes)}
            model, curve, facts = self._outcome(batch.runs[lane], batch.models[lane], finished)
            device = jax.local_devices()[0].device_kind
            yield trained(batch.runs[lane], model, curve, {**facts, "device": device, **measured})

    def _outcome(
        self, run: Run, model: keras.Model, finished: FinishedLane
    ) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
        """The bytes of the model, the curve, and the facts of a run."""
        curve = finished.curve
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            try:
                if finished.weights is None:
                    assert finished.diverged is not None
                    raise finished.diverged
                model.set_weights([np.asarray(weight) for weight in finished.weights])
                if run.validation is None:
                    diverged.check_outputs(model, self._images[: diverged.CHECKED], curve)
            except DivergedError as error:
                data = self._images, self._labels, run.classes, run.validation
                return diverged.outcome(run.recipe, *data, rows=curve, error=error)
            return model_bytes(model), curve, {**run_facts(curve, finished.best_epoch)}


def prepared(groups: Sequence[Group], images: np.ndarray) -> Iterator[PreparedBatch]:
    """The groups as batches, in their order, each prepared while others train."""
    with ThreadPoolExecutor(AHEAD) as pool:
        futures: list[Future[PreparedBatch]] = []
        for i in range(len(groups)):
            while len(futures) < min(len(groups), i + 1 + AHEAD):
                futures.append(pool.submit(_prepare, groups[len(futures)], images))
            yield futures[i].result()


def train_lanes(
    batch: PreparedBatch,
    images: np.ndarray,
    labels: np.ndarray,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
) -> Iterator[tuple[int, FinishedLane]]:
    """Train a batch, as `engine.train`."""
    return engine.train(
        batch.shared,
        batch.lanes,
        images,
        labels,
        batch_size=batch.batch_size,
        width=batch.width,
        on_epoch=on_epoch,
    )


def names(runs: Sequence[Run]) -> str:
    """The variants of runs, as text."""
    return ", ".join(dict.fromkeys(run.variant for run in runs))


def groups_of(runs: Sequence[Run], images: np.ndarray) -> tuple[list[Group], list[Failed]]:
    """Group runs that can share a batch, in their order; and list those whose model can't be built."""
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
        key = common.identity, _recipe(run).batch_size, 0 if run.validation is None else len(run.validation)
        groups.setdefault(key, (common, []))[1].append(run)
    return list(groups.values()), failed


def shared_of(run: Run, images: np.ndarray, forms: Forms = TODAY) -> Shared | str:
    """What the runs of a variant have in common, or why it can't be trained."""
    recipe = _recipe(run)
    try:
        model, _ = build_and_check(recipe.build, images, run.classes, run.seed)
        optimizer = optimizers.build(recipe.optimizer, recipe.average)
        return Shared(
            model,
            optimizer,
            smoothing=recipe.label_smoothing,
            augment=_augment(recipe, images.shape[1:3]),
            augment_name=str(recipe.augment),
            forms=forms,
        )
    except UserError as error:
        return str(error)


def _recipe(run: Run) -> KerasRecipe:
    assert isinstance(run.recipe, KerasRecipe)
    return run.recipe


def _augment(recipe: KerasRecipe, size: tuple[int, ...]) -> Augment | None:
    if recipe.augment is None:
        return None
    augmenter = Augmenter(recipe.augment, size, seed=0)

    def augment(images: jax.Array, key: jax.Array) -> jax.Array:
        with keras.StatelessScope(state_mapping=[(augmenter.seed_generator.state, key)]):
            return augmenter(images)

    return augment


def _prepare(group: Group, images: np.ndarray) -> PreparedBatch:
    """Compute the initial values of all lanes on the CPU, and compile the programs of the batch."""
    shared, runs = group
    batch_size = _recipe(runs[0]).batch_size
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        models = [_recipe(run).build(images.shape[1:], run.classes, layer_seeds(run.seed)) for run in runs]
        lanes = [lane_of(run, model) for run, model in zip(runs, models, strict=True)]
    validation = engine.validation_images(lanes[0])
    width = engine.fitting_width(shared, len(lanes), images, validation=validation, batch_size=batch_size)
    engine.compile_ahead(shared, images, validation=validation, batch_size=batch_size, width=width)
    return PreparedBatch(shared, runs, models, lanes, batch_size, width)


def lane_of(run: Run, model: keras.Model) -> Lane:
    """The lane of a run, with the initial values of its freshly built model."""
    recipe = _recipe(run)
    return Lane(
        seed=run.seed,
        variables=[np.asarray(variable) for variable in model.variables],
        validation=run.validation,
        rates=recipe.learning_rates(),
        epochs=recipe.epochs,
        patience=recipe.patience,
        restore_best=recipe.restore_best,
        augmenter_seed=augmenter_seed(run.seed),
    )
