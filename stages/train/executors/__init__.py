"""The executors that train runs. Each run is trained by the first executor that is selected and accepts its recipe."""

import contextlib
import functools
import importlib
import os
import pkgutil
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from many_seeds.errors import UserError
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import Recipe
from stages.study.provenance import families
from stages.train.executors import batched_seeds
from stages.train.executors.interface import Execution, Executor
from stages.train.run import Failed, Run, Train, Trained, describe_error


class Entry(NamedTuple):
    """An executor.

    Attributes:
        selected: whether the settings of this machine select it.
        module: its module.
        extra: the optional dependencies of pyproject.toml that it needs.
        calls_fit: whether it trains a run by `Recipe.fit`. Otherwise it has the loop of `KerasRecipe.fit` itself, and
            takes no family that overrides it.
    """

    selected: Callable[[], bool]
    module: str
    extra: str
    calls_fit: bool = True


@functools.cache
def _jax_for_cuda() -> bool:
    """Whether JAX for CUDA is installed, found without its import, which takes seconds."""
    return any(name.startswith("jax_cuda") for _, name, _ in pkgutil.iter_modules())


EXECUTORS = {
    "dask": Entry(lambda: bool(os.environ.get("DASK_SCHEDULER_ADDRESS")), "stages.train.executors.cluster", "cluster"),
    batched_seeds.NAME: Entry(
        lambda: _jax_for_cuda() and batched_seeds.sees_gpu(),
        "stages.train.executors.batched_seeds",
        "gpu",
        calls_fit=False,
    ),
    "processes": Entry(lambda: True, "stages.train.executors.processes", "cpu"),
}


def name_for(recipe: Recipe) -> str:
    """The name of a recipe's executor: that of STUDY_EXECUTOR, or the first one that this machine's settings select.

    Raises:
        UserError: STUDY_EXECUTOR is not an executor, or its dependencies are not installed.
    """
    wanted = os.environ.get("STUDY_EXECUTOR")
    if wanted and wanted not in EXECUTORS:
        raise UserError(f"STUDY_EXECUTOR should be one of {', '.join(EXECUTORS)}, received {wanted!r}")
    selected = [name for name, entry in EXECUTORS.items() if name == wanted or (not wanted and entry.selected())]
    return next((name for name in selected if _takes(name, recipe)), "processes")


def _takes(name: str, recipe: Recipe) -> bool:
    """Whether an executor can train runs of a recipe.

    The condition on `fit` is here and not in `batched_seeds.takes` because an edit there makes all runs on GPUs stale.
    """
    its_loop = EXECUTORS[name].calls_fit or type(recipe).fit is KerasRecipe.fit
    return its_loop and _module(name).takes(recipe)


def code_digest(name: str) -> str | None:
    """A digest of the code of an executor if it decides bits, else None."""
    paths = _module(name).code_files()
    return families.source_digest(paths) if paths else None


def slots(recipe: Recipe) -> int:
    """How many runs of a recipe are trained at the same time."""
    return _module(name_for(recipe)).slots()


def sets_backend(recipes: Iterable[Recipe]) -> bool:
    """Whether an executor of these recipes sets Keras's backend in its process, which evaluates nothing afterwards."""
    return any(not EXECUTORS[name_for(recipe)].calls_fit for recipe in recipes)


@contextlib.contextmanager
def executing(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Train runs, each with its executor. The executors work at the same time.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, height, width] or [n, height, width, 3], all training images.
        labels: uint8 or uint16 [n].
        train: the function that a worker executes.

    Yields:
        An iterator over the results of the runs, as they end; and a function that describes the runs under way.

    Raises:
        UserError: an executor is not available.
    """
    by_executor: dict[str, list[Run]] = {}
    for run in runs:
        by_executor.setdefault(run.executor, []).append(run)
    # Batched seeds first: the others find the backend that these set.
    groups = sorted(by_executor.items(), key=lambda group: EXECUTORS[group[0]].calls_fit)
    with contextlib.ExitStack() as stack:
        executions = [stack.enter_context(_training(name, group, images, labels, train)) for name, group in groups]
        results = [results for results, _ in executions]
        yield (
            results[0] if len(results) == 1 else _merged(results),
            lambda: "; ".join(text for _, under_way in executions if (text := under_way())),
        )


@contextlib.contextmanager
def _training(
    name: str, runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train
) -> Iterator[Execution]:
    """Train runs with one executor. An error of batched seeds ends the variant that it belongs to, not the others.

    The condition is here and not in `batched_seeds`, because an edit there makes all runs on GPUs stale.
    """
    start = functools.partial(_module(name).training, images=images, labels=labels, train=train)
    with start(runs) as (results, under_way):
        yield results if EXECUTORS[name].calls_fit else _by_variant(results, runs, start), under_way


def _by_variant(
    results: Iterator[Trained | Failed],
    runs: Sequence[Run],
    start: Callable[[Sequence[Run]], contextlib.AbstractContextManager[Execution]],
) -> Iterator[Trained | Failed]:
    """The results of runs that share batches; after an error, each variant without results is trained on its own.

    Args:
        results: of the runs, which end with any error.
        runs: the runs.
        start: starts to train some of them.
    """
    left = {run.name: run for run in runs}
    try:
        for result in results:
            del left[result.run.name]
            yield result
    except Exception as error:  # noqa: BLE001  # such as one of memory, whose type depends on the device
        reason = str(error) if isinstance(error, UserError) else describe_error(error)
    variants = dict.fromkeys(run.variant for run in left.values())
    if len(variants) == 1:
        yield from (Failed(run, reason) for run in left.values())
        return
    for variant in variants:
        group = [run for run in left.values() if run.variant == variant]
        with start(group) as (again, _):
            yield from _by_variant(again, group, start)


def _merged(sources: Sequence[Iterator[Trained | Failed]]) -> Iterator[Trained | Failed]:
    """The results of several iterators as they come, each iterator consumed in a separate thread."""
    found: queue.Queue[Any] = queue.Queue()

    def take(source: Iterator[Trained | Failed]) -> None:
        try:
            for result in source:
                found.put(result)
            found.put(None)
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            found.put(error)

    for source in sources:
        threading.Thread(target=take, args=(source,), daemon=True).start()
    active = len(sources)
    while active:
        result = found.get()
        if isinstance(result, BaseException):
            raise result
        if result is None:
            active -= 1
        else:
            yield result


def _module(name: str) -> Executor:
    try:
        return cast(Executor, importlib.import_module(EXECUTORS[name].module))
    except ImportError as error:
        raise UserError(
            f"the executor {name} needs packages that are not installed ({error}): pip install -e "
            f"'.[{EXECUTORS[name].extra}]'"
        ) from error
