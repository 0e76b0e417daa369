"""The compiled programs of batched seeds. Each is compiled once in a process.

A state is a dict of lists of arrays, whose first axis is that of the lanes: "trainable" and "fixed" are the trainable
and the other variables of the model (such as the seeds of its dropout), "optimizer" those of the optimizer.
"""

import contextlib
import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from many_seeds.errors import UserError
from stages.train.executors.batched_seeds.forms import TODAY, Forms, patched

# Of a program: few enough to be shared by epochs of different lengths, many enough to make Python's share small.
MAXIMUM_STEPS = 125

State = dict[str, list[jax.Array]]
Augment = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True, eq=False)
class Shared:
    """What all lanes of a batch have in common.

    Attributes:
        model: the Keras model. The values of its variables are not used.
        optimizer: with a learning rate that is a number, not a schedule.
        smoothing: of the labels; 0 for none.
        augment: from uint8 images [n, ...] and a key uint32 [2] to images, or None.
        augment_name: identifies `augment`.
        forms: of the convolutions.
        identity: a text that is equal for batches with equal programs.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    smoothing: float = 0.0
    augment: Augment | None = None
    augment_name: str = ""
    forms: Forms = TODAY
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        object.__setattr__(self, "identity", _identity(self))

    @property
    def rate_index(self) -> int:
        """The index of the learning rate in the optimizer's variables."""
        for i, variable in enumerate(self.optimizer.variables):
            if variable.path.endswith("/learning_rate"):
                return i
        raise UserError(
            "the optimizer should have a number as its learning rate, which is set in each step, not a schedule"
        )

    @property
    def average_indices(self) -> list[int]:
        """The indices of the moving averages of the weights in the optimizer's variables, if it keeps them."""
        if not self.optimizer.use_ema:
            return []
        places = {id(variable): i for i, variable in enumerate(self.optimizer.variables)}
        return [places[id(average)] for average in self.optimizer._model_variables_moving_average]


def _identity(shared: Shared) -> str:
    """A text that is equal for models with equal programs, independent of seeds and initial values."""
    optimizer = shared.optimizer.get_config() | {"class": type(shared.optimizer).__name__, "learning_rate": None}
    shapes = [(tuple(v.shape), v.dtype, v.trainable) for v in shared.model.variables]
    parts = [_without_names_and_seeds(json.loads(shared.model.to_json())), _without_names_and_seeds(optimizer), shapes]
    settings = [shared.smoothing, shared.augment_name, dataclasses.asdict(shared.forms)]
    return json.dumps([*parts, *settings], sort_keys=True, default=str)


def _without_names_and_seeds(config: Any) -> Any:
    if isinstance(config, list):
        return [_without_names_and_seeds(part) for part in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_names_and_seeds(value)
        for key, value in config.items()
        if key not in ("name", "seed", "shared_object_id") and not key.endswith("_initializer")
    }


@dataclass(frozen=True)
class Stretch:
    """A part of an epoch: calls of one program.

    Attributes:
        steps: the number of batches of each call.
        size: the number of images in a batch.
        repeats: the number of calls.
    """

    steps: int
    size: int
    repeats: int


def epoch_plan(images: int, batch_size: int) -> list[Stretch]:
    """Divide an epoch into few programs: equal stretches, the remaining steps one by one, the last partial batch."""
    steps, rest = divmod(images, batch_size)
    length = next((k for k in range(min(MAXIMUM_STEPS, steps), 0, -1) if steps % k == 0), 0)
    if length and length < min(steps, MAXIMUM_STEPS) // 3:  # a number of steps with no good divisor
        length = steps // -(-steps // MAXIMUM_STEPS)
    plan = [Stretch(length, batch_size, steps // length)] if length else []
    if length and steps % length:
        plan.append(Stretch(1, batch_size, steps % length))
    return [*plan, Stretch(1, rest, 1)] if rest else plan


_programs: dict[Any, Future] = {}
_programs_lock = threading.Lock()
_tracing = threading.RLock()  # a model's layers are changed while it is traced


def program(function: Callable, shared: Shared, sizes: tuple[int, ...], donated: tuple[int, ...], *args: Any) -> Any:
    """A function of this module compiled for these arguments, once in this process; other threads wait for it.

    Args:
        function: to compile.
        shared: its first argument.
        sizes: its second argument.
        donated: the positions in `args` of the arrays whose memory may be reused.
        args: its other arguments, arrays or `jax.ShapeDtypeStruct`s.
    """
    shapes = jax.tree.map(lambda x: (tuple(x.shape), str(x.dtype)), args)
    key = (function.__name__, shared.identity, sizes, str(shapes))
    with _programs_lock:
        ours = key not in _programs
        future = _programs.setdefault(key, Future())
    if ours:
        try:
            future.set_result(_compile(function, shared, sizes, donated, args))
        except BaseException as error:
            with _programs_lock:
                del _programs[key]
            future.set_exception(error)
            raise
    return future.result()


def _compile(function: Callable, shared: Shared, sizes: tuple[int, ...], donated: tuple[int, ...], args: Any) -> Any:
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with _tracing, patched(shared.model, shared.forms), _logits(shared.model) as has_logits:

        def whole(*values: Any) -> Any:
            return function(shared, has_logits, sizes, *values)

        lowered = jax.jit(whole, donate_argnums=donated).lower(*structs)
    return lowered.compile()


@contextlib.contextmanager
def _logits(model: keras.Model) -> Iterator[bool]:
    """Within the block, leave out a last softmax and yield True: the loss is more exact from the logits."""
    last = model.layers[-1]
    softmax = type(last) is keras.layers.Dense and last.activation is keras.activations.softmax
    if softmax:
        last.activation = keras.activations.linear
    try:
        yield softmax
    finally:
        if softmax:
            last.activation = keras.activations.softmax


def train_steps(
    shared: Shared,
    has_logits: bool,
    sizes: tuple[int, ...],
    state: State,
    sums: dict[str, jax.Array],
    images: jax.Array,
    labels: jax.Array,
    side: dict[str, jax.Array],
    place: dict[str, jax.Array],
) -> tuple[State, dict[str, jax.Array]]:
    """Train for a stretch of an epoch.

    Args:
        shared: what the lanes have in common.
        has_logits: whether the model's outputs are logits, not probabilities.
        sizes: the number of steps and the batch size.
        state: of the lanes.
        sums: of the scores of the epoch so far, "loss" float32 [lanes] and "correct" int32 [lanes].
        images: uint8 [n, ...].
        labels: int32 [n].
        side: of each lane, "orders" int32 [lanes, images], "rates" float32 [lanes, steps of an epoch], "keys" uint32
            [lanes, 2].
        place: where the stretch starts: its first "image" in the orders, its first "step" in the rates.

    Returns:
        The state and the sums after the stretch.
    """
    steps, size = sizes
    lanes = side["orders"].shape[0]
    batches = jax.lax.dynamic_slice(side["orders"], (0, place["image"]), (lanes, steps * size))
    batches = batches.reshape(lanes, steps, size).swapaxes(0, 1)
    rates = jax.lax.dynamic_slice(side["rates"], (0, place["step"]), (lanes, steps)).T

    def one(state: State, batch: jax.Array, rate: jax.Array, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        optimizer = list(state["optimizer"])
        optimizer[shared.rate_index] = rate
        state = {**state, "optimizer": optimizer}
        return _train_step(shared, has_logits, state, _at(images, batch), _at(labels, batch), key)

    def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        state, sums = carry
        state, scores = jax.vmap(one)(state, *batch, side["keys"])
        return (state, jax.tree.map(jnp.add, sums, scores)), None

    return jax.lax.scan(step, (state, sums), (batches, rates))[0]


def _at(values: jax.Array, indices: jax.Array) -> jax.Array:
    return values.at[indices].get(mode="promise_in_bounds")


def _train_step(
    shared: Shared, has_logits: bool, state: State, images: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    if shared.augment:
        # The optimizer's first variable counts its steps.
        images = shared.augment(images, jax.random.fold_in(key, state["optimizer"][0]))

    def objective(trainable: list[jax.Array]) -> tuple[jax.Array, Any]:
        outputs, fixed, penalties = shared.model.stateless_call(
            trainable, state["fixed"], images, training=True, return_losses=True
        )
        loss = _cross_entropy(outputs, labels, has_logits, shared.smoothing).mean() + sum(penalties)
        correct = (outputs.argmax(-1) == labels).sum(dtype=jnp.int32)
        return loss, (fixed, {"loss": loss * len(labels), "correct": correct})

    gradients, (fixed, scores) = jax.grad(objective, has_aux=True)(state["trainable"])
    trainable, optimizer = shared.optimizer.stateless_apply(state["optimizer"], gradients, state["trainable"])
    return {"trainable": trainable, "fixed": fixed, "optimizer": optimizer}, scores


def _cross_entropy(outputs: jax.Array, labels: jax.Array, has_logits: bool, smoothing: float) -> jax.Array:
    """The loss of each image, float32 [n]; from probabilities as `keras.losses.sparse_categorical_crossentropy`."""
    outputs = outputs.astype(jnp.float32)
    if has_logits:
        logs = jax.nn.log_softmax(outputs)
    else:
        least = keras.config.epsilon()
        logs = jnp.log(jnp.clip(outputs / outputs.sum(-1, keepdims=True), least, 1 - least))
    targets = jax.nn.one_hot(labels, outputs.shape[-1])
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / outputs.shape[-1]
    return -(targets * logs).sum(-1)


def score(
    shared: Shared,
    has_logits: bool,
    sizes: tuple[int, ...],
    state: State,
    images: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
) -> dict[str, jax.Array]:
    """The sums of the scores of each lane over its validation split.

    Args:
        shared: what the lanes have in common.
        has_logits: whether the model's outputs are logits, not probabilities.
        sizes: the number of images at a time.
        state: of the lanes.
        images: uint8 [n, ...].
        labels: int32 [n].
        indices: of the validation split, int32 [lanes, n].

    Returns:
        "loss" float32 [lanes] and "correct" int32 [lanes].
    """

    def one(lane: tuple[State, jax.Array, jax.Array]) -> dict[str, jax.Array]:
        state, block, counted = lane
        outputs, _, penalties = shared.model.stateless_call(
            state["trainable"], state["fixed"], _at(images, block), training=False, return_losses=True
        )
        losses = _cross_entropy(outputs, _at(labels, block), has_logits, shared.smoothing) + sum(penalties)
        correct = (outputs.argmax(-1) == _at(labels, block)) & counted
        return {"loss": (losses * counted).sum(), "correct": correct.sum(dtype=jnp.int32)}

    def add(sums: dict[str, jax.Array], block: tuple[jax.Array, jax.Array]) -> tuple[dict[str, jax.Array], None]:
        lanes = (state, block[0], jnp.broadcast_to(block[1], block[0].shape))
        return jax.tree.map(jnp.add, sums, jax.vmap(one)(lanes)), None

    # The last block is padded with images that are not counted.
    (lanes, count), size = indices.shape, sizes[0]
    blocks = -(-count // size)
    padded = jnp.pad(indices, [(0, 0), (0, blocks * size - count)]).reshape(lanes, blocks, size).swapaxes(0, 1)
    counted = (jnp.arange(blocks * size) < count).reshape(blocks, size)
    zeros = {"loss": jnp.zeros(lanes, jnp.float32), "correct": jnp.zeros(lanes, jnp.int32)}
    return jax.lax.scan(add, zeros, (padded, counted))[0]


def outputs(
    shared: Shared, has_logits: bool, sizes: tuple[int, ...], state: State, images: jax.Array
) -> dict[str, jax.Array]:
    """The outputs of each lane's model on the same images, float32 [lanes, n, classes].

    Args:
        shared: what the lanes have in common.
        has_logits: whether the model's outputs are logits, not probabilities.
        sizes: the number of images at a time.
        state: of the lanes.
        images: uint8 [n, ...].
    """

    def one(state: State, block: jax.Array) -> jax.Array:
        found, _ = shared.model.stateless_call(state["trainable"], state["fixed"], block, training=False)
        return jax.nn.softmax(found) if has_logits else found

    count, size = len(images), sizes[0]
    blocks = -(-count // size)
    padded = jnp.pad(images, [(0, blocks * size - count)] + [(0, 0)] * (images.ndim - 1))
    found = jax.lax.map(
        lambda block: jax.vmap(one, in_axes=(0, None))(state, block), padded.reshape(blocks, size, *images.shape[1:])
    )
    return found.swapaxes(0, 1).reshape(found.shape[1], blocks * size, -1)[:, :count]


def zero_sums(lanes: int) -> dict[str, jax.Array]:
    """The sums of the scores before the first step of an epoch."""
    return jax.device_put({"loss": np.zeros(lanes, np.float32), "correct": np.zeros(lanes, np.int32)})


@functools.partial(jax.jit, static_argnums=1)
def spread(tree: Any, lanes: int) -> Any:
    """Repeat the arrays of one lane for a number of lanes."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), tree)


@jax.jit
def copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def stack(lanes: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *parts: jnp.stack(parts), *lanes)


@jax.jit
def take(tree: Any, index: jax.Array) -> Any:
    """One lane of a tree of arrays, or the lanes of an array of indices."""
    return jax.tree.map(lambda x: x[index], tree)


def _put(tree: Any, index: jax.Array, lane: Any) -> Any:
    return jax.tree.map(lambda x, y: x.at[index].set(y), tree, lane)


def _keep(best: Any, tree: Any, better: jax.Array) -> Any:
    return jax.tree.map(lambda b, x: jnp.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, b), best, tree)


put = jax.jit(_put, donate_argnums=0)  # replaces one lane, in place
keep = jax.jit(_keep, donate_argnums=0)  # replaces the lanes that are better, in place


def initial_state(shared: Shared, variables: Sequence[Any]) -> State:
    """The state of one lane before its first step, without the axis of lanes, from its model's variables."""
    trainable = [value for value, v in zip(variables, shared.model.variables, strict=True) if v.trainable]
    fixed = [value for value, v in zip(variables, shared.model.variables, strict=True) if not v.trainable]
    return {"trainable": trainable, "fixed": fixed, "optimizer": [np.asarray(v) for v in shared.optimizer.variables]}


def inference_state(shared: Shared, weights: Sequence[Any]) -> State:
    """The state of one trained lane, without the axis of lanes, from its model's weights."""
    values = {id(v): value for v, value in zip(shared.model.weights, weights, strict=True)}
    all_values = [(v, values.get(id(v), v.value)) for v in shared.model.variables]  # seeds are not weights, nor used
    return {
        "trainable": [value for v, value in all_values if v.trainable],
        "fixed": [value for v, value in all_values if not v.trainable],
        "optimizer": [],
    }
