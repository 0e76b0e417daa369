"""Train many seeds of one Keras model as one batch with JAX, as fit_network trains a single one: a lane for each run.

Every lane has its own weights, optimizer state, dropout, batch orders, learning rate, validation split, early stopping
and best weights. Lanes are independent: the result of a lane depends on itself and, in the last bits, on the width of
the batch. A lane that ends is replaced with one that waits; when none waits, the width of the batch is halved.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from many_seeds.errors import UserError
from stages.recipes.shared.epochs import EarlyStopping, batch_order, check_finite, curve_row
from stages.recipes.shared.recipe import DivergedError, training_indices
from stages.train.executors.batched_seeds import programs
from stages.train.executors.batched_seeds.programs import Shared, State

WIDEST = 256  # where the device does not say how much memory it has
NARROWEST = 8  # fewer lanes hardly take less time on a GPU
MEMORY_SHARE = 0.9  # of the device's memory that a batch may fill
ORDER_THREADS = 4


@dataclass(frozen=True)
class Lane:
    """One run of a batch.

    Attributes:
        seed: of the batch orders.
        variables: initial values of all variables of the model, in the order of `model.variables`.
        validation: indices of the validation split, or None; it has the same size in all lanes of a batch.
        rates: from an epoch and its number of steps to the learning rate of the epoch, or of each of its steps.
        epochs: the maximum number of epochs.
        patience: training stops after this many epochs without a new lowest validation loss; None for never.
        restore_best: keep the weights of the lowest validation loss, not the last ones.
        augmenter_seed: of augmentation.
    """

    seed: int
    variables: Sequence[Any]
    validation: np.ndarray | None
    rates: Callable[[int, int], float | np.ndarray]
    epochs: int
    patience: int | None = None
    restore_best: bool = False
    augmenter_seed: int = 0


@dataclass(frozen=True)
class FinishedLane:
    """The result of a lane.

    Attributes:
        weights: on the device, in the order of `model.weights`, for `model.set_weights`; None if the lane diverged.
        curve: a row for every epoch, as `epochs.curve_row`, without that in which the lane diverged.
        best_epoch: the epoch of the weights.
        diverged: the error of a lane that diverged, or None.
    """

    weights: list[jax.Array] | None
    curve: list[dict[str, float]]
    best_epoch: int
    diverged: DivergedError | None


def train(
    shared: Shared,
    lanes: Sequence[Lane],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    width: int | None = None,
    narrowest: int = NARROWEST,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Iterator[tuple[int, FinishedLane]]:
    """Train lanes until each has ended.

    Args:
        shared: what the lanes have in common.
        lanes: the runs, in the order in which to start them.
        images: uint8 [n, ...], as the model takes them.
        labels: integers [n].
        batch_size: the number of images in a step.
        width: the exact number of lanes at a time, padded with idle ones; None for as many as fit into memory.
        narrowest: the minimum width. With `narrowest` = `width` a lane's bits don't depend on the other lanes.
        on_epoch: called with a lane's index and its row of the curve after every epoch.

    Yields:
        The index and the result of each lane, as soon as it has ended; the device goes on computing meanwhile.

    Raises:
        UserError: validation splits differ in size, or a single lane does not fit into memory.
    """
    sizes = sorted({validation_images(lane) for lane in lanes})
    if len(sizes) > 1:
        raise UserError(f"the validation splits of a batch should have the same size; received {sizes}")
    waiting = dict(enumerate(lanes))
    while waiting:
        first = next(iter(waiting.values()))
        if width is None:
            width = fitting_width(
                shared, len(waiting), images, validation=validation_images(first), batch_size=batch_size
            )
        try:
            for index, finished in _train_batch(
                shared, waiting.copy(), images, labels, batch_size, width, narrowest, on_epoch
            ):
                del waiting[index]
                yield index, finished
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if width == 1:
                raise UserError(f"a single seed does not fit into the device's memory: {error}") from error
            # The state is lost: the lanes in training start again.
            width = max(width // 2, 1)
            narrowest = min(narrowest, width)


def validation_images(lane: Lane) -> int:
    """The size of a lane's validation split."""
    return 0 if lane.validation is None else len(lane.validation)


@dataclass
class LaneState:
    """The progress of a lane.

    Attributes:
        index: of the lane.
        lane: the lane.
        order: from an epoch to its order of the training images, int32 [images], padded with zeros.
        stopping: its early stopping.
        curve: a row for every epoch so far.
        diverged: the error of a lane that has diverged, or None.
    """

    index: int
    lane: Lane
    order: Callable[[int], np.ndarray]
    stopping: EarlyStopping
    curve: list[dict[str, float]] = field(default_factory=list)
    diverged: DivergedError | None = None

    @property
    def epoch(self) -> int:
        return len(self.curve)

    def update(self, row: dict[str, float]) -> tuple[bool, bool]:
        """Take in an epoch.

        Args:
            row: of the training curve.

        Returns:
            Whether the weights of the epoch should be kept as the best so far, and whether the lane has ended.
        """
        try:
            check_finite(row)
        except DivergedError as error:  # this lane ends, the others go on
            self.diverged = error
            return False, True
        improved = self.stopping.update(self.epoch, row.get("val_loss"))
        self.curve.append(row)
        return improved and self.lane.restore_best, self.stopping.stop or self.epoch >= self.lane.epochs

    def finish(self, weights: list[jax.Array] | None) -> FinishedLane:
        best = self.stopping.best_epoch if self.lane.restore_best else len(self.curve) - 1
        return FinishedLane(None if self.diverged else weights, self.curve, best, self.diverged)


def start_lane(index: int, lane: Lane, images: int) -> LaneState:
    """The state of a lane before its first epoch. `images` is the size of the training set."""
    return LaneState(index, lane, orders_of(lane, images), EarlyStopping(lane.patience))


class Batch:
    """The lanes that are training, on the device: one in each slot. The values of an idle slot have no meaning."""

    def __init__(
        self, shared: Shared, images: np.ndarray, labels: np.ndarray, batch_size: int, pool: ThreadPoolExecutor
    ) -> None:
        self.shared, self.batch_size, self.pool = shared, batch_size, pool
        self.images, self.labels = jax.device_put((images, labels.astype(np.int32)))
        self.slots: list[LaneState | None] = []
        self.state: State = {}
        self.side: dict[str, jax.Array] = {}  # of each lane: "keys", "validation", the epoch's "orders"
        self.rates: Any = None  # of each lane and step of the epoch
        self.best: dict[str, list[jax.Array]] | None = None

    @property
    def width(self) -> int:
        return len(self.slots)

    @property
    def validation_images(self) -> int:
        """The size of the validation split of each lane."""
        return self.side["validation"].shape[1] if "validation" in self.side else 0

    @property
    def training_images(self) -> int:
        return len(self.images) - self.validation_images

    def start(self, states: Sequence[LaneState], width: int) -> None:
        """Fill the slots with the first lanes, and with idle ones up to the width."""
        self.slots = [*states, *[None] * (width - len(states))]
        filled = [*states, *[states[0]] * (width - len(states))]
        lanes = [programs.initial_state(self.shared, state.lane.variables) for state in filled]
        self.state = {
            part: [np.stack([np.asarray(lane[part][i]) for lane in lanes]) for i in range(len(lanes[0][part]))]
            for part in ("trainable", "fixed")
        }
        self.state = jax.device_put(self.state) | {"optimizer": programs.spread(lanes[0]["optimizer"], width)}
        sides = list(self.pool.map(_side, filled))
        self.side = jax.device_put({name: np.stack([side[name] for side in sides]) for name in sides[0]})
        if any(state.lane.restore_best for state in states):
            self.best = programs.copy(self._weights())

    def place(self, state: LaneState, slot: int) -> None:
        """Start a lane in an idle slot."""
        self.slots[slot] = state
        lane = jax.tree.map(np.asarray, programs.initial_state(self.shared, list(state.lane.variables)))
        self.state = programs.put(self.state, slot, lane)
        self.side = programs.put(self.side, slot, _side(state))
        if state.lane.restore_best and self.best is None:
            self.best = programs.copy(self._weights())

    def narrow(self, width: int) -> None:
        """Drop idle slots."""
        alive = [slot for slot, state in enumerate(self.slots) if state]
        kept = (alive + [slot for slot, state in enumerate(self.slots) if not state])[:width]
        self.slots = [self.slots[slot] for slot in kept]
        index = np.array(kept, np.int32)
        self.state, self.side = programs.take(self.state, index), programs.take(self.side, index)
        self.best = None if self.best is None else programs.take(self.best, index)

    def train_epoch(self) -> tuple[dict[str, jax.Array], dict[str, jax.Array] | None]:
        """Start an epoch on the device: the sums of its scores, and those of the validation split after it."""
        self.rates = self.rates_of_epoch()
        sums, image, step = programs.zero_sums(self.width), 0, 0
        for stretch in programs.epoch_plan(self.training_images, self.batch_size):
            for _ in range(stretch.repeats):
                sums = self.train_stretch(stretch, sums, image, step)
                image, step = image + stretch.steps * stretch.size, step + stretch.steps
        return sums, self.score_validation() if self.validation_images else None

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return -(-self.training_images // self.batch_size)

    def rates_of_epoch(self) -> Any:
        """The rates of the epoch that starts, float32 [lanes, maximum steps of an epoch], padded with zeros."""
        rates = np.zeros((self.width, maximum_steps(self.images, self.batch_size)), np.float32)
        for slot, state in enumerate(self.slots):
            if state:
                rates[slot, : self.steps] = state.lane.rates(state.epoch, self.steps)
        return jax.device_put(rates)

    def train_stretch(
        self, stretch: programs.Stretch, sums: dict[str, jax.Array], image: int, step: int
    ) -> dict[str, jax.Array]:
        """Call the program of a stretch once, from an image and a step of the epoch on, and add to the sums."""
        side = {"orders": self.side["orders"], "keys": self.side["keys"], "rates": self.rates}
        place = {"image": np.int32(image), "step": np.int32(step)}
        args = (self.state, sums, self.images, self.labels, side, place)
        sizes = (stretch.steps, stretch.size)
        self.state, sums = programs.program(programs.train_steps, self.shared, sizes, (0, 1), *args)(*args)
        return sums

    def score_validation(self) -> dict[str, jax.Array]:
        """The sums of the scores of each lane's validation split."""
        args = ({**self._weights(), "optimizer": []}, self.images, self.labels, self.side["validation"])
        return programs.program(programs.score, self.shared, (validation_block(self.batch_size),), (), *args)(*args)

    def compile(self, width: int) -> None:
        """Compile the programs for another width."""
        compile_ahead(
            self.shared, self.images, validation=self.validation_images, batch_size=self.batch_size, width=width
        )

    def prepare_orders(self) -> "Future[jax.Array]":
        """Start to compute the orders of the next epoch for the lanes that are in the slots now."""
        rows = [self.pool.submit(state.order, state.epoch + 1) if state else None for state in self.slots]
        idle = np.zeros(len(self.images), np.int32)
        return _later(lambda: jax.device_put(np.stack([row.result() if row else idle for row in rows])))

    def keep_best(self, better: np.ndarray) -> None:
        """Keep the weights of the lanes, bool [lanes], that have new best ones."""
        if self.best is not None and better.any():
            self.best = programs.keep(self.best, self._weights(), better)

    def weights_of(self, slot: int) -> list[jax.Array]:
        """The weights that a lane ends with, in the order of `model.weights`."""
        state = self.slots[slot]
        tree = self.best if state and state.lane.restore_best and self.best is not None else self._weights()
        parts = {part: iter(values) for part, values in programs.take(tree, slot).items()}
        model = self.shared.model
        values = {id(v): next(parts["trainable" if v.trainable else "fixed"]) for v in model.variables}
        return [values[id(v)] for v in model.weights]

    def _weights(self) -> dict[str, list[jax.Array]]:
        """What is evaluated and kept: the moving averages of the weights, if the optimizer keeps them."""
        averages = [self.state["optimizer"][i] for i in self.shared.average_indices]
        return {"trainable": averages or self.state["trainable"], "fixed": self.state["fixed"]}


def maximum_steps(images: Any, batch_size: int) -> int:
    """The steps of an epoch of all images, so that epochs with and without a validation split share programs."""
    return -(-images.shape[0] // batch_size)


def _later(make: Callable[[], Any]) -> Future:
    """Call `make` in a thread of its own."""
    thread = ThreadPoolExecutor(1)
    future = thread.submit(make)
    thread.shutdown(wait=False)
    return future


def validation_block(batch_size: int) -> int:
    """How many validation images of each lane are scored at once: without gradients four times as many fit."""
    return min(4 * batch_size, 512)


def _side(state: LaneState) -> dict[str, np.ndarray]:
    """What a lane has on the device beside its variables."""
    seed = state.lane.augmenter_seed
    side = {"keys": np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32), "orders": state.order(state.epoch)}
    if state.lane.validation is not None:
        side["validation"] = state.lane.validation.astype(np.int32)
    return side


def orders_of(lane: Lane, images: int) -> Callable[[int], np.ndarray]:
    """The order of the training images in each epoch, as indices of all images.

    Args:
        lane: the lane.
        images: the number of all images.

    Returns:
        A function from an epoch to int32 [images], padded with zeros.
    """
    chosen = training_indices(images, lane.validation).astype(np.int32)

    def order(epoch: int) -> np.ndarray:
        row = np.zeros(images, np.int32)
        row[: len(chosen)] = chosen[batch_order(len(chosen), lane.seed, epoch)]
        return row

    return order


def _train_batch(
    shared: Shared,
    lanes: dict[int, Lane],
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    width: int,
    narrowest: int,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
) -> Iterator[tuple[int, FinishedLane]]:
    """Train lanes as one batch; yields the index of each lane and its result.

    It branches more than ten times because training on the device overlaps with the work of the host (orders, compiling
    for a narrower batch, finished lanes): the steps depend on one another's place within an epoch.
    """
    waiting = deque(start_lane(index, lane, len(images)) for index, lane in lanes.items())
    may_narrow = len({lane.epochs for lane in lanes.values()}) > 1 or any(lane.patience for lane in lanes.values())
    with ThreadPoolExecutor(ORDER_THREADS) as pool:
        batch = Batch(shared, images, labels, batch_size, pool)
        batch.start([waiting.popleft() for _ in range(min(width, len(waiting)))], width)
        ended: list[tuple[int, FinishedLane]] = []
        while any(batch.slots):
            scores = batch.train_epoch()
            orders = batch.prepare_orders()
            half = batch.width // 2
            if may_narrow and half >= narrowest and not waiting:
                _later(lambda half=half: batch.compile(half))  # type: ignore[misc]
            # The device trains while the caller processes the lanes that have ended.
            yield from ended
            training, validation = jax.tree.map(np.asarray, scores)
            ended = _end_epoch(batch, training, validation, on_epoch)
            batch.side["orders"] = orders.result()
            for slot, state in enumerate(batch.slots):
                if state is None and waiting:
                    batch.place(waiting.popleft(), slot)
            alive = sum(state is not None for state in batch.slots)
            if may_narrow and half >= narrowest and 0 < alive <= half:
                batch.narrow(half)
        yield from ended


def _end_epoch(
    batch: Batch,
    training: dict[str, np.ndarray],
    validation: dict[str, np.ndarray] | None,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
) -> list[tuple[int, FinishedLane]]:
    """Take in the scores of an epoch. The lanes that end leave their slots."""
    better, ending = np.zeros(batch.width, bool), []
    for slot, state in enumerate(batch.slots):
        if state is None:
            continue
        means = _means(training, slot, batch.training_images)
        val_means = _means(validation, slot, batch.validation_images) if validation is not None else None
        row = curve_row(state.epoch, means, val_means, state.lane.rates(state.epoch, batch.steps))
        better[slot], ends = state.update(row)
        if on_epoch and not state.diverged:
            on_epoch(state.index, row)
        if ends:
            ending.append((slot, state))
    batch.keep_best(better)
    ended = []
    for slot, state in ending:
        ended.append((state.index, state.finish(None if state.diverged else batch.weights_of(slot))))
        batch.slots[slot] = None
    return ended


def _means(sums: dict[str, np.ndarray], slot: int, count: int) -> dict[str, float]:
    return {"loss": float(sums["loss"][slot]) / count, "accuracy": float(sums["correct"][slot]) / count}


def compile_ahead(
    shared: Shared,
    images: Any,
    *,
    validation: int,
    batch_size: int,
    width: int,
    plan: Sequence[programs.Stretch] | None = None,
) -> list[Any]:
    """Compile the programs of a batch, for example in a thread while another batch trains.

    Args:
        shared: what the lanes have in common.
        images: uint8 [n, ...], or anything with such a shape and dtype.
        validation: the size of the validation split.
        batch_size: the number of images in a step.
        width: the number of lanes.
        plan: the stretches of an epoch; None for those of `programs.epoch_plan`.

    Returns:
        The compiled programs, those of training first.
    """
    struct = jax.ShapeDtypeStruct
    state = {
        "trainable": [struct((width, *v.shape), v.dtype) for v in shared.model.variables if v.trainable],
        "fixed": [struct((width, *v.shape), v.dtype) for v in shared.model.variables if not v.trainable],
        "optimizer": [struct((width, *v.shape), v.dtype) for v in shared.optimizer.variables],
    }
    sums = {"loss": struct((width,), np.float32), "correct": struct((width,), np.int32)}
    data = struct(images.shape, images.dtype), struct(images.shape[:1], np.int32)
    side = {
        "orders": struct((width, images.shape[0]), np.int32),
        "rates": struct((width, maximum_steps(images, batch_size)), np.float32),
        "keys": struct((width, 2), np.uint32),
    }
    place = {"image": struct((), np.int32), "step": struct((), np.int32)}
    compiled = []
    for stretch in plan or programs.epoch_plan(images.shape[0] - validation, batch_size):
        args = (state, sums, *data, side, place)
        sizes = (stretch.steps, stretch.size)
        compiled.append(programs.program(programs.train_steps, shared, sizes, (0, 1), *args))
    if validation:
        scored = ({**state, "optimizer": []}, *data, struct((width, validation), np.int32))
        compiled.append(programs.program(programs.score, shared, (validation_block(batch_size),), (), *scored))
    return compiled


def needed_bytes(compiled: Any) -> int:
    """The bytes of the device's memory that one call of a compiled program needs."""
    sizes = compiled.memory_analysis()
    total = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    return int(total - sizes.alias_size_in_bytes)


def fitting_width(shared: Shared, lanes: int, images: np.ndarray, *, validation: int, batch_size: int) -> int:
    """The number of lanes, halved until the batch fits into the device's memory."""
    memory = jax.local_devices()[0].memory_stats()
    if not memory or "bytes_limit" not in memory:
        return min(lanes, WIDEST)
    free = MEMORY_SHARE * memory["bytes_limit"] - memory["bytes_in_use"]
    width = lanes
    while width > 1:
        compiled = compile_ahead(shared, images, validation=validation, batch_size=batch_size, width=width)
        # The best weights so far are kept beside the values of a program.
        best = width * sum(v.value.nbytes for v in shared.model.variables)
        if max(map(needed_bytes, compiled)) + best < free:
            break
        width = -(-width // 2)
    return width


def predict(
    shared: Shared, weights: Sequence[Sequence[Any]], images: np.ndarray, *, width: int, block: int
) -> np.ndarray:
    """The outputs of trained lanes.

    Args:
        shared: what they have in common.
        weights: of each lane, as `FinishedLane.weights`.
        images: uint8 [n, ...].
        width: the number of lanes at a time.
        block: the number of images at a time.

    Returns:
        float32 [lanes, n, classes].
    """
    found, on_device = [], jax.device_put(images)
    for first in range(0, len(weights), width):
        group = weights[first : first + width]
        filled = [*group, *[group[0]] * (width - len(group))]
        states = [programs.inference_state(shared, lane) for lane in filled]
        state = programs.stack(states)
        args = (state, on_device)
        found.append(np.asarray(programs.program(programs.outputs, shared, (block,), (), *args)(*args))[: len(group)])
    return np.concatenate(found)
