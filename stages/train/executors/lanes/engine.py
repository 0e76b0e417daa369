"""Many seeds of one Keras model trained as one batch, with JAX: what fit_network does, a lane for each run.

Every lane has its own weights, optimizer, dropout, batch orders, learning rate, dev images, early stopping and best
weights. Lanes don't see one another: what a lane computes depends on itself and, in the last bits, on the width of the
batch. A lane that ends makes room for one that waits; when none waits, the batch becomes narrower in halves.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import keras
import numpy as np

from many_seeds.errors import UserError
from stages.train.executors.lanes import programs
from stages.train.executors.lanes.programs import Shared, State

WIDEST = 256  # where the device does not say how much memory it has
NARROWEST = 8  # fewer lanes hardly take less time on a GPU
MEMORY_SHARE = 0.9  # of the device's memory that a batch may fill
ORDER_THREADS = 4


@dataclass(frozen=True)
class Lane:
    """One run of a batch.

    seed: of the batch orders, as in fit_network.
    augmenter_seed: of augmentation.
    variables: initial values of all of the model's variables, in the order of `model.variables`.
    dev: indices of the images set aside, or None; all lanes of a batch set aside equally many.
    rates: the learning rate of an epoch, or of each of its steps; of the epoch, from 0, and its number of steps.
    epochs: at most.
    patience: training ends after so many epochs without a lower dev loss; None for never.
    restore_best: end with the weights of the lowest dev loss.
    """

    seed: int
    variables: Sequence[Any]
    dev: np.ndarray | None
    rates: Callable[[int, int], float | np.ndarray]
    epochs: int
    patience: int | None = None
    restore_best: bool = False
    augmenter_seed: int = 0


@dataclass(frozen=True)
class Finished:
    """What became of a lane.

    weights: on the device, in the order of `model.weights`, for `model.set_weights`; None if the lane failed.
    curve: a row for every epoch, as fit_network's.
    best_epoch: that the weights are from.
    failure: why the lane could not be trained, or None.
    """

    weights: list[jax.Array] | None
    curve: list[dict[str, float]]
    best_epoch: int
    failure: str | None


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
) -> Iterator[tuple[int, Finished]]:
    """Train `lanes`, each to its own end.

    Args:
        shared: what the lanes have in common.
        lanes: the runs, in the order in which to start them.
        images: uint8 [n, ...], as the model takes them.
        labels: integers [n].
        batch_size: images a step.
        width: lanes at a time, exactly: with fewer, idle ones fill up. None: as many as there are or fit into memory.
        narrowest: the batch becomes no narrower. With `narrowest` = `width` a lane's bits don't depend on the others.
        on_epoch: is called with a lane's index and its row of the curve after every epoch.

    Yields:
        The index of a lane and what became of it, as soon as it has ended; the device goes on meanwhile.

    Raises:
        UserError: lanes set aside different numbers of images, or not even one lane fits into memory.
    """
    if len({set_aside(lane) for lane in lanes}) > 1:
        raise UserError(
            f"lanes of a batch should set aside equally many dev images; received {sorted(map(set_aside, lanes))}"
        )
    waiting = dict(enumerate(lanes))
    while waiting:
        first = next(iter(waiting.values()))
        if width is None:
            width = fitting_width(shared, len(waiting), images, dev=set_aside(first), batch_size=batch_size)
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
                raise UserError(f"one lane does not fit into the device's memory: {error}") from error
            # The state is lost: the lanes under way begin again.
            width = max(width // 2, 1)
            narrowest = min(narrowest, width)


def set_aside(lane: Lane) -> int:
    return 0 if lane.dev is None else len(lane.dev)


@dataclass
class Course:
    """How far a lane is."""

    index: int
    lane: Lane
    order: Callable[[int], np.ndarray]  # int32 [images] of an epoch, the rest zeros
    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = math.inf
    failure: str | None = None

    @property
    def epoch(self) -> int:
        return len(self.curve)

    def judge(self, row: dict[str, float]) -> tuple[bool, bool]:
        """Take in an epoch's row: whether its weights are the best so far, and whether the lane has ended."""
        lane, epoch = self.lane, self.epoch
        for name in ("loss", "val_loss"):
            if not math.isfinite(row.get(name, 0.0)):
                self.failure = (
                    f"{name} is {row[name]} after epoch {epoch}: training diverges; "
                    f"lower learning_rate (it was {row['learning_rate']:g})"
                )
                return False, True
        self.curve.append(row)
        better = impatient = False
        if lane.dev is None or not (lane.patience or lane.restore_best):
            self.best_epoch = epoch
        elif row["val_loss"] < self.best_loss:
            self.best_epoch, self.best_loss, better = epoch, row["val_loss"], lane.restore_best
        else:
            impatient = bool(lane.patience) and epoch - self.best_epoch >= (lane.patience or 0)
        return better, impatient or self.epoch >= lane.epochs

    def finished(self, weights: list[jax.Array] | None) -> Finished:
        best = self.best_epoch if self.lane.restore_best else len(self.curve) - 1
        return Finished(None if self.failure else weights, self.curve, best, self.failure)


class Batch:
    """The lanes that train at present, on the device: one in each slot; an idle slot's values don't matter."""

    def __init__(
        self, shared: Shared, images: np.ndarray, labels: np.ndarray, batch_size: int, pool: ThreadPoolExecutor
    ) -> None:
        self.shared, self.batch_size, self.pool = shared, batch_size, pool
        self.images, self.labels = jax.device_put((images, labels.astype(np.int32)))
        self.slots: list[Course | None] = []
        self.state: State = {}
        self.side: dict[str, jax.Array] = {}  # "keys", "dev" and this epoch's "orders" of the lanes
        self.rates: Any = None  # of each lane and step of this epoch
        self.best: dict[str, list[jax.Array]] | None = None

    @property
    def width(self) -> int:
        return len(self.slots)

    @property
    def dev_images(self) -> int:
        """How many images each lane sets aside."""
        return self.side["dev"].shape[1] if "dev" in self.side else 0

    @property
    def training_images(self) -> int:
        return len(self.images) - self.dev_images

    def begin(self, courses: Sequence[Course], width: int) -> None:
        self.slots = [*courses, *[None] * (width - len(courses))]
        filled = [*courses, *[courses[0]] * (width - len(courses))]
        lanes = [programs.lane_state(self.shared, course.lane.variables) for course in filled]
        self.state = {
            part: [np.stack([np.asarray(lane[part][i]) for lane in lanes]) for i in range(len(lanes[0][part]))]
            for part in ("trainable", "fixed")
        }
        self.state = jax.device_put(self.state) | {"optimizer": programs.spread(lanes[0]["optimizer"], width)}
        sides = list(self.pool.map(_side, filled))
        self.side = jax.device_put({name: np.stack([side[name] for side in sides]) for name in sides[0]})
        if any(course.lane.restore_best for course in courses):
            self.best = programs.copy(self._weights())

    def place(self, course: Course, slot: int) -> None:
        """Put a lane that begins into a free slot."""
        self.slots[slot] = course
        lane = jax.tree.map(np.asarray, programs.lane_state(self.shared, list(course.lane.variables)))
        self.state = programs.put(self.state, slot, lane)
        self.side = programs.put(self.side, slot, _side(course))
        if course.lane.restore_best and self.best is None:
            self.best = programs.copy(self._weights())

    def narrow(self, width: int) -> None:
        """Drop slots that are idle."""
        alive = [slot for slot, course in enumerate(self.slots) if course]
        kept = (alive + [slot for slot, course in enumerate(self.slots) if not course])[:width]
        self.slots = [self.slots[slot] for slot in kept]
        index = np.array(kept, np.int32)
        self.state, self.side = programs.take(self.state, index), programs.take(self.side, index)
        self.best = None if self.best is None else programs.take(self.best, index)

    def train_epoch(self) -> tuple[dict[str, jax.Array], dict[str, jax.Array] | None]:
        """Set an epoch going: the sums of its scores, and those of the dev images after it."""
        self.rates = self.rates_of_epoch()
        sums, image, step = programs.zero_sums(self.width), 0, 0
        for stretch in programs.epoch_plan(self.training_images, self.batch_size):
            for _ in range(stretch.repeats):
                sums = self.train_stretch(stretch, sums, image, step)
                image, step = image + stretch.steps * stretch.size, step + stretch.steps
        return sums, self.score_dev() if self.dev_images else None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.training_images // self.batch_size)

    def rates_of_epoch(self) -> Any:
        """Of every step of the epoch that begins: float32 [lanes, most steps of any epoch], the rest zeros."""
        rates = np.zeros((self.width, most_steps(self.images, self.batch_size)), np.float32)
        for slot, course in enumerate(self.slots):
            if course:
                rates[slot, : self.steps] = course.lane.rates(course.epoch, self.steps)
        return jax.device_put(rates)

    def train_stretch(
        self, stretch: programs.Stretch, sums: dict[str, jax.Array], image: int, step: int
    ) -> dict[str, jax.Array]:
        """One call of a stretch's program, from the epoch's `image` and `step` on: the sums with its scores added."""
        side = {"orders": self.side["orders"], "keys": self.side["keys"], "rates": self.rates}
        place = {"image": np.int32(image), "step": np.int32(step)}
        args = (self.state, sums, self.images, self.labels, side, place)
        sizes = (stretch.steps, stretch.size)
        self.state, sums = programs.program(programs.train_steps, self.shared, sizes, (0, 1), *args)(*args)
        return sums

    def score_dev(self) -> dict[str, jax.Array]:
        """The sums of the scores of each lane's dev images."""
        args = ({**self._weights(), "optimizer": []}, self.images, self.labels, self.side["dev"])
        return programs.program(programs.score, self.shared, (dev_block(self.batch_size),), (), *args)(*args)

    def compile(self, width: int) -> None:
        compile_ahead(self.shared, self.images, dev=self.dev_images, batch_size=self.batch_size, width=width)

    def prepare_orders(self) -> "Future[jax.Array]":
        """Begin to make the next epoch's orders of the lanes that are in the slots now."""
        rows = [self.pool.submit(c.order, c.epoch + 1) if c else None for c in self.slots]
        idle = np.zeros(len(self.images), np.int32)
        return _later(lambda: jax.device_put(np.stack([row.result() if row else idle for row in rows])))

    def keep_best(self, better: np.ndarray) -> None:
        if self.best is not None and better.any():
            self.best = programs.keep(self.best, self._weights(), better)

    def weights_of(self, slot: int) -> list[jax.Array]:
        course = self.slots[slot]
        tree = self.best if course and course.lane.restore_best and self.best is not None else self._weights()
        parts = {part: iter(values) for part, values in programs.take(tree, slot).items()}
        model = self.shared.model
        values = {id(v): next(parts["trainable" if v.trainable else "fixed"]) for v in model.variables}
        return [values[id(v)] for v in model.weights]

    def _weights(self) -> dict[str, list[jax.Array]]:
        """What is looked at and kept: the moving averages of the weights, where there are some."""
        averages = [self.state["optimizer"][i] for i in self.shared.average_indices]
        return {"trainable": averages or self.state["trainable"], "fixed": self.state["fixed"]}


def most_steps(images: Any, batch_size: int) -> int:
    """Of an epoch of all images, so that epochs with and without dev images share their programs."""
    return -(-images.shape[0] // batch_size)


def _later(make: Callable[[], Any]) -> Future:
    """`make()` in a thread of its own."""
    thread = ThreadPoolExecutor(1)
    future = thread.submit(make)
    thread.shutdown(wait=False)
    return future


def dev_block(batch_size: int) -> int:
    """How many dev images of each lane are looked at at once: without gradients four times as many fit."""
    return min(4 * batch_size, 512)


def _side(course: Course) -> dict[str, np.ndarray]:
    seed = course.lane.augmenter_seed
    side = {"keys": np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32), "orders": course.order(course.epoch)}
    if course.lane.dev is not None:
        side["dev"] = course.lane.dev.astype(np.int32)
    return side


def orders_of(lane: Lane, images: int) -> Callable[[int], np.ndarray]:
    """The order of an epoch's training images, as in fit_network, in an array for all images."""
    kept = np.ones(images, bool)
    if lane.dev is not None:
        kept[lane.dev] = False
    chosen = np.flatnonzero(kept).astype(np.int32)

    def order(epoch: int) -> np.ndarray:
        permutation = np.random.default_rng(np.random.SeedSequence([lane.seed, epoch + 1])).permutation(len(chosen))
        row = np.zeros(images, np.int32)
        row[: len(chosen)] = chosen[permutation]
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
) -> Iterator[tuple[int, Finished]]:
    waiting = deque(Course(index, lane, orders_of(lane, len(images))) for index, lane in lanes.items())
    may_narrow = len({lane.epochs for lane in lanes.values()}) > 1 or any(lane.patience for lane in lanes.values())
    with ThreadPoolExecutor(ORDER_THREADS) as pool:
        batch = Batch(shared, images, labels, batch_size, pool)
        batch.begin([waiting.popleft() for _ in range(min(width, len(waiting)))], width)
        ended: list[tuple[int, Finished]] = []
        while any(batch.slots):
            scores = batch.train_epoch()
            orders = batch.prepare_orders()
            half = batch.width // 2
            if may_narrow and half >= narrowest and not waiting:
                _later(lambda half=half: batch.compile(half))  # type: ignore[misc]
            # The device trains while whoever called deals with what has ended.
            yield from ended
            trained, dev = jax.tree.map(np.asarray, scores)
            ended = _judge(batch, trained, dev, on_epoch)
            batch.side["orders"] = orders.result()
            for slot, course in enumerate(batch.slots):
                if course is None and waiting:
                    batch.place(waiting.popleft(), slot)
            alive = sum(course is not None for course in batch.slots)
            if may_narrow and half >= narrowest and 0 < alive <= half:
                batch.narrow(half)
        yield from ended


def _judge(
    batch: Batch,
    trained: dict[str, np.ndarray],
    dev: dict[str, np.ndarray] | None,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
) -> list[tuple[int, Finished]]:
    """Take in an epoch's scores; the lanes that end leave their slots."""
    better, over = np.zeros(batch.width, bool), []
    count = batch.training_images
    for slot, course in enumerate(batch.slots):
        if course is None:
            continue
        row: dict[str, float] = {"epoch": course.epoch} | _means(trained, slot, count)
        if dev is not None:
            row |= {f"val_{name}": value for name, value in _means(dev, slot, set_aside(course.lane)).items()}
        row["learning_rate"] = float(np.ravel(course.lane.rates(course.epoch, batch.steps))[-1])
        better[slot], ends = course.judge(row)
        if on_epoch and not course.failure:
            on_epoch(course.index, row)
        if ends:
            over.append(slot)
    batch.keep_best(better)
    ended = []
    for slot in over:
        course = batch.slots[slot]
        assert course is not None
        ended.append((course.index, course.finished(None if course.failure else batch.weights_of(slot))))
        batch.slots[slot] = None
    return ended


def _means(sums: dict[str, np.ndarray], slot: int, count: int) -> dict[str, float]:
    return {"loss": float(sums["loss"][slot]) / count, "accuracy": float(sums["correct"][slot]) / count}


def compile_ahead(
    shared: Shared,
    images: Any,
    *,
    dev: int,
    batch_size: int,
    width: int,
    plan: Sequence[programs.Stretch] | None = None,
) -> list[Any]:
    """Compile what a batch of `width` lanes will run, in a thread, say, while another batch trains.

    Args:
        shared: what the lanes have in common.
        images: uint8 [n, ...], or anything with such a shape and dtype.
        dev: the number of images that each lane sets aside.
        batch_size: images a step.
        width: of the batch.
        plan: the stretches of an epoch, if not those of `programs.epoch_plan`.

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
        "rates": struct((width, most_steps(images, batch_size)), np.float32),
        "keys": struct((width, 2), np.uint32),
    }
    place = {"image": struct((), np.int32), "step": struct((), np.int32)}
    compiled = []
    for stretch in plan or programs.epoch_plan(images.shape[0] - dev, batch_size):
        args = (state, sums, *data, side, place)
        sizes = (stretch.steps, stretch.size)
        compiled.append(programs.program(programs.train_steps, shared, sizes, (0, 1), *args))
    if dev:
        looked_at = ({**state, "optimizer": []}, *data, struct((width, dev), np.int32))
        compiled.append(programs.program(programs.score, shared, (dev_block(batch_size),), (), *looked_at))
    return compiled


def needed_bytes(compiled: Any) -> int:
    """Of the device's memory, for one call of a compiled program."""
    sizes = compiled.memory_analysis()
    total = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    return int(total - sizes.alias_size_in_bytes)


def fitting_width(shared: Shared, lanes: int, images: np.ndarray, *, dev: int, batch_size: int) -> int:
    """As many lanes as there are, or halves of them until a batch fits into the device's memory."""
    memory = jax.local_devices()[0].memory_stats()
    if not memory or "bytes_limit" not in memory:
        return min(lanes, WIDEST)
    free = MEMORY_SHARE * memory["bytes_limit"] - memory["bytes_in_use"]
    width = lanes
    while width > 1:
        compiled = compile_ahead(shared, images, dev=dev, batch_size=batch_size, width=width)
        # The best weights so far lie beside a program's own values.
        best = width * sum(v.value.nbytes for v in shared.model.variables)
        if max(map(needed_bytes, compiled)) + best < free:
            break
        width = -(-width // 2)
    return width


def initial_values(build: Callable[[int], keras.Model], seeds: Sequence[int]) -> list[list[np.ndarray]]:
    """For each seed the values of all variables of a freshly built model, made by the CPU."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return [[np.asarray(variable) for variable in build(seed).variables] for seed in seeds]


def predict(
    shared: Shared, weights: Sequence[Sequence[Any]], images: np.ndarray, *, width: int, block: int
) -> np.ndarray:
    """What trained lanes say of images.

    Args:
        shared: what they had in common.
        weights: of each lane, as `Finished` has them.
        images: uint8 [n, ...].
        width: lanes at a time; the last ones are filled up.
        block: images at a time.

    Returns:
        float32 [lanes, n, classes].
    """
    said, on_device = [], jax.device_put(images)
    for first in range(0, len(weights), width):
        group = weights[first : first + width]
        filled = [*group, *[group[0]] * (width - len(group))]
        states = [programs.weights_state(shared, lane) for lane in filled]
        state = programs.stack(states)
        args = (state, on_device)
        said.append(np.asarray(programs.program(programs.outputs, shared, (block,), (), *args)(*args))[: len(group)])
    return np.concatenate(said)
