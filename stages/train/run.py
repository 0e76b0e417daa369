"""One run: a variant trained with one seed. Its key, its files, and the function that a worker executes."""

import functools
import gc
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.recipes.shared.trained import Trained as TrainedRecipe
from stages.recipes.shared.training import Result, backend
from stages.recipes.shared.training import train as train_recipe
from stages.study import families, files
from stages.study.environments import Environment, installed_versions, processor
from stages.terminal import native_stderr_hidden


@dataclass(frozen=True)
class Run:
    """What a worker needs to know to train one variant with one seed.

    classes: how many the data have.
    dev: indices of the seed's dev images, or None where the recipe uses none.
    executor: that trains it.
    digests: SHA-256 of what the result depends on: "data", "dev", "code", and "executor" where that decides bits.
    versions: of the packages that the result depends on; a worker with others refuses.
    same_as: the environment that is certified to make the same bits of this variant, where there is one.
    """

    variant: str
    recipe: Recipe
    seed: int
    classes: int
    dev: np.ndarray | None
    executor: str
    digests: dict[str, str]
    versions: dict[str, str]
    same_as: Environment | None = None

    @property
    def key(self) -> str:
        """A digest of everything that decides the result: the same key, the same bits."""
        digests, versions = self.digests, self.versions
        if self.same_as is not None:
            digests = {name: value for name, value in digests.items() if name != "executor"} | self.same_as.digests
            versions = self.same_as.versions
        return run_key(self.variant, self.recipe, self.seed, digests, versions)

    @property
    def name(self) -> str:
        return f"{self.variant} seed {self.seed}"


@dataclass(frozen=True)
class Trained:
    run: Run
    files: dict[str, bytes]  # of the run's folder: model.keras, curves.csv, run.json
    facts: dict[str, Any]  # what run.json says


@dataclass(frozen=True)
class Failed:
    """A run that can't succeed as it is, so that the others need not be lost with it."""

    run: Run
    reason: str


def run_key(variant: str, recipe: Recipe, seed: int, digests: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """The key of a run, in whatever order its digests stand."""
    ordered = {name: digests[name] for name in ("data", "code", "executor", "dev") if name in digests}
    return files.digest(files.json_bytes([variant, recipe.decisive(), seed, ordered, versions]))


# What a worker executes: of a run, all training images, their labels, and a file to keep the current epoch in.
Train = Callable[[Run, np.ndarray, np.ndarray, Path | None], Trained | Failed]


def train_run(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """Train one run on one thread; the function that workers execute.

    Args:
        run: what to train.
        images: uint8 [n, height, width] or [n, height, width, 3], the whole training set.
        labels: uint8 or uint16 [n].
        progress: a file to keep the current epoch in, for a driver on the same machine.

    Returns:
        The files of the run's folder, or why there can be none.
    """
    if (found := installed_versions(backend())) != run.versions:
        return Failed(run, f"this worker's packages differ: {differing(found, run.versions)}. Install the locked ones.")

    def report(epoch: int, row: dict[str, float]) -> None:
        if progress is not None:
            progress.write_text(f"epoch {epoch + 1}, loss {row['loss']:.4f}", encoding="utf-8")

    spare_libraries()
    started_at, started = time.time(), time.perf_counter()
    try:
        with warnings.catch_warnings():  # Keras drops an argument that it does not know any more
            warnings.filterwarnings("error", "Argument .* is no longer supported", UserWarning)
            result = train_recipe(run.recipe, images, labels, run.classes, dev=run.dev, seed=run.seed, report=report)
        see_that_it_is_whole(run, result, images[:2])
    except (UserError, UserWarning) as error:
        return Failed(run, str(error))
    finally:
        if progress is not None:
            progress.unlink(missing_ok=True)
    taken = {"started": round(started_at, 3), "seconds": round(time.perf_counter() - started, 3)}
    return trained(run, result.model, result.curve, result.facts | taken)


def see_that_it_is_whole(run: Run, result: Result, images: np.ndarray) -> None:
    """See that a family with a `fit` of its own made what evaluation needs.

    Raises:
        UserError: it did not.
    """
    told = {name: value for name, value in result.facts.items() if isinstance(value, float | int | None)}
    if sorted(told) != sorted(run.recipe.facts):
        received = {name: type(value).__name__ for name, value in result.facts.items()}
        raise UserError(f"fit should tell {', '.join(run.recipe.facts)}, as plain numbers or None; received {received}")
    if type(run.recipe).fit is TrainedRecipe.fit:
        return  # whose model was looked at before it was trained
    import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        Path(file.name).write_bytes(result.model)
        shape = keras.saving.load_model(file.name, compile=False)(images).shape
    if tuple(shape) != (len(images), run.classes):
        raise UserError(f"fit should make a model with outputs [n, {run.classes}]; received {list(shape)}")


def describe_error(error: BaseException) -> str:
    """An error that nobody foresaw, and where in the family's code it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent == families.FOLDER]
    place = f"stages/recipes/{Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name}: " if own else ""
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras prints in bold
    return f"{place}{type(error).__name__}: {said}"


@functools.cache
def spare_libraries() -> None:
    """Keep what the libraries hold, which stays, out of the search for garbage with which Keras begins every run."""
    with native_stderr_hidden():
        import keras  # noqa: F401
    gc.collect()
    gc.freeze()


def differing(there: dict[str, str], here: dict[str, str]) -> str:
    """The packages of a worker that are not those of the driver, in words."""
    return ", ".join(
        f"{name} {there.get(name, 'missing')} there, {here.get(name, 'missing')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def trained(run: Run, model: bytes, curve: list[dict[str, Any]], facts: dict[str, Any]) -> Trained:
    """The files of a finished run."""
    table = pd.DataFrame(curve, columns=run.recipe.curve)
    table.insert(0, "seed", run.seed)
    said = {
        "variant": run.variant,
        "seed": run.seed,
        "key": run.key,
        "parameters": run.recipe.model_dump(exclude={"seeds"}),
        "digests": {**run.digests, "model": files.digest(model)},
        "versions": run.versions,
        "backend": backend(),
        "device": "cpu",
        "processor": processor(),
        **facts,
    }
    content = {"model.keras": model, "curves.csv": files.csv_bytes(table), "run.json": files.json_bytes(said)}
    return Trained(run, content, said)
