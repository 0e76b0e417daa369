"""One run: a variant trained with one seed. Its key, its files, and the function that a worker executes."""

import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import DivergedError, EpochCallback, FitResult, Recipe
from stages.recipes.shared.training import SavedResult, backend
from stages.recipes.shared.training import train as train_recipe
from stages.study import files
from stages.study.provenance import families
from stages.study.provenance.environments import Environment, installed_versions, processor
from stages.train import diverged
from stages.train.memory import freeze_libraries, gradients_released


@dataclass(frozen=True)
class Run:
    """The input of a worker: one variant with one seed.

    Attributes:
        variant: its name.
        recipe: its recipe.
        seed: the seed.
        classes: the number of classes of the data.
        validation: the sorted indices of the seed's validation split, or None if the recipe uses none.
        executor: the name of the executor that trains it.
        digests: SHA-256 of everything that the result depends on: "data", "dev" (the validation split), "code", and
            "executor" if it decides bits.
        versions: the versions of the packages that the result depends on. A worker with other versions fails the run.
        same_as: the environment that is certified to make the same bits of this variant, or None.
    """

    variant: str
    recipe: Recipe
    seed: int
    classes: int
    validation: np.ndarray | None
    executor: str
    digests: dict[str, str]
    versions: dict[str, str]
    same_as: Environment | None = None

    @property
    def key(self) -> str:
        """A digest of everything that decides the result. Runs with the same key have the same bits."""
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
    """A run that was trained. One that diverged is trained, too: it has a model that predicts the largest class.

    Attributes:
        run: the run.
        files: the contents of the run's folder: model.keras, curves.csv, run.json.
        facts: the content of run.json.
    """

    run: Run
    files: dict[str, bytes]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A run that could not be trained. The other runs continue.

    Attributes:
        run: the run.
        reason: the error message.
    """

    run: Run
    reason: str


def run_key(variant: str, recipe: Recipe, seed: int, digests: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """The key of a run.

    Args:
        variant: its name.
        recipe: its recipe.
        seed: the seed.
        digests: as in `Run`, in any order.
        versions: as in `Run`.
    """
    ordered = {name: digests[name] for name in ("data", "code", "executor", "dev") if name in digests}
    return files.digest(files.json_bytes([variant, recipe.key_fields(), seed, ordered, versions]))


# The function that a worker executes: of a run, all training images, their labels, and a file for the current epoch.
Train = Callable[[Run, np.ndarray, np.ndarray, Path | None], Trained | Failed]


def train_run(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """Train one run on one thread; the function that workers execute. A run that diverges is a result, no failure.

    Args:
        run: the run.
        images: uint8 [n, height, width] or [n, height, width, 3], the whole training set.
        labels: uint8 or uint16 [n].
        progress: a file for the current epoch, which a driver on the same machine reads, or None.

    Returns:
        The trained run, or why it could not be trained.
    """
    if (found := installed_versions(backend())) != run.versions:
        return Failed(run, f"this worker's packages differ: {differing(found, run.versions)}. Install the locked ones.")

    rows: list[dict[str, Any]] = []

    def take_epoch(epoch: int, row: dict[str, float]) -> None:
        if "loss" not in row:
            raise UserError(f"fit should call on_epoch with a row that has a loss, received {listed([*row])}")
        rows.append(row)
        if progress is not None:
            progress.write_text(f"epoch {epoch + 1}, loss {row['loss']:.4f}", encoding="utf-8")

    freeze_libraries()
    started_at, started = time.time(), time.perf_counter()
    try:
        with gradients_released(), warnings.catch_warnings():  # Keras ignores an argument that it no longer supports
            warnings.filterwarnings("error", "Argument .* is no longer supported", UserWarning)
            result = _fit(run, images, labels, take_epoch)
        rows[:] = result.curve  # a family without epochs reports none before
        check_result(run, result, images[: diverged.CHECKED])
        model, curve, facts = result.model, result.curve, dict[str, Any](result.facts)
    except DivergedError as error:
        model, curve, facts = diverged.outcome(
            run.recipe, images, labels, run.classes, run.validation, rows=rows, error=error
        )
    except (UserError, UserWarning) as error:
        return Failed(run, str(error))
    finally:
        if progress is not None:
            progress.unlink(missing_ok=True)
    times = {"started": round(started_at, 3), "seconds": round(time.perf_counter() - started, 3)}
    return trained(run, model, curve, facts | times)


def _fit(run: Run, images: np.ndarray, labels: np.ndarray, take_epoch: EpochCallback) -> SavedResult:
    """Train a run. Errors of a model with weights that are not finite from the start say that it diverges."""
    try:
        return train_recipe(
            cast(Recipe, _CheckedFit(run.recipe)),
            images,
            labels,
            run.classes,
            validation=run.validation,
            seed=run.seed,
            on_epoch=take_epoch,
        )
    except DivergedError:
        raise
    except UserError:
        if isinstance(run.recipe, KerasRecipe):
            diverged.check_initial_weights(run.recipe, images.shape[1:], run.classes, run.seed)
        raise


class _CheckedFit:
    """A recipe whose `fit` returns a `FitResult` with a Keras model, or raises a UserError."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def fit(self, *arguments: Any, **named: Any) -> FitResult:
        import keras

        result = self._recipe.fit(*arguments, **named)
        if not isinstance(result, FitResult):
            raise UserError(f"fit should return a FitResult, received {type(result).__name__} (docs/models.md)")
        if not isinstance(result.model, keras.Model):
            raise UserError(
                f"fit should return a keras.Model as the model, received {type(result.model).__name__}: other models "
                "are trained outside of the pipeline, by many_seeds.decide (docs/decide.md)"
            )
        return result


def check_result(run: Run, result: SavedResult, images: np.ndarray) -> None:
    """Check the facts of a result, and the outputs of its model.

    Args:
        run: the run.
        result: the result of its training.
        images: uint8 [n, height, width] or [n, height, width, 3], a few of the training images.

    Raises:
        DivergedError: outputs are infinite or not a number.
        UserError: facts of a family that overrides `fit` are missing or of another type, or the outputs have another
            shape.
    """
    plain = {name: value for name, value in result.facts.items() if isinstance(value, float | int | None)}
    if sorted(plain) != sorted(run.recipe.facts):
        received = {name: type(value).__name__ for name, value in result.facts.items()}
        raise UserError(
            f"fit should return the facts {', '.join(run.recipe.facts)}, as plain numbers or None; received {received}"
        )
    if type(run.recipe).fit is KerasRecipe.fit and run.validation is not None:
        return  # the model was checked before training, and has a finite validation loss
    import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        Path(file.name).write_bytes(result.model)
        model = keras.saving.load_model(file.name, compile=False)
    shape = diverged.check_outputs(model, images, result.curve)
    if shape != (len(images), run.classes):
        raise UserError(f"fit should return a model with outputs [n, {run.classes}]; received {list(shape)}")


def describe_error(error: BaseException) -> str:
    """An unexpected error as text, with the line of the family's code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    in_family = [frame for frame in frames if Path(frame.filename).parent == families.FOLDER]
    place = ""
    if in_family:
        last = in_family[-1]
        place = f"stages/recipes/{Path(last.filename).name}, line {last.lineno}, in {last.name}: "
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras prints in bold
    return f"{place}{type(error).__name__}: {text}"


def differing(there: dict[str, str], here: dict[str, str]) -> str:
    """The packages of a worker whose versions differ from those of the driver, as text.

    Args:
        there: package → version, on the worker.
        here: package → version, on the driver.
    """
    return ", ".join(
        f"{name} {there.get(name, 'missing')} there, {here.get(name, 'missing')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def trained(run: Run, model: bytes, curve: list[dict[str, Any]], facts: dict[str, Any]) -> Trained:
    """A trained run with the files of its folder.

    Args:
        run: the run.
        model: the bytes of its Keras archive.
        curve: a row for each epoch or step of a search.
        facts: facts of the run to record, besides its recipe and environment.
    """
    table = pd.DataFrame(curve, columns=run.recipe.curve)
    table.insert(0, "seed", run.seed)
    content = {
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
    contents = {"model.keras": model, "curves.csv": files.csv_bytes(table), "run.json": files.json_bytes(content)}
    return Trained(run, contents, content)
