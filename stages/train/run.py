"""One run: a variant trained with one seed. What decides its result, and the function that a worker executes."""

import ast
import importlib.metadata
import io
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import records

# The modules of this folder that decide a family's results; the others decide where and when they are computed.
RESULT_MODULES = {
    "network": ["fit", "network", "run", "tensorflow_passes"],
    "linear": ["ridge", "run"],
    "elm": ["ridge", "run"],
}
RESULT_PACKAGES = {"tensorflow": ["tensorflow", "tensorflow-cpu"], "jax": ["jax"], "torch": ["torch"]}


@dataclass(frozen=True)
class Run:
    """What a worker needs to know to train one variant with one seed.

    recipe: the variant's fields in params.yaml.
    dev: indices of the seed's dev images, or None where the recipe uses none.
    digests: SHA-256 of what the result depends on: "data", "dev", "code".
    versions: of the packages that the result depends on; a worker with others refuses.
    """

    variant: str
    recipe: dict[str, Any]
    seed: int
    dev: np.ndarray | None
    digests: dict[str, str]
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """A digest of everything that decides the result: the same key, the same bits."""
        parts = [self.variant, self.recipe, self.seed, self.digests, self.versions]
        return records.digest(records.json_bytes(parts))

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


def backend() -> str:
    """The Keras backend that workers will use, without importing Keras."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def installed_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, by the name they are imported under."""
    versions = {name: importlib.metadata.version(name) for name in ("keras", "numpy", "scikit-learn", "scipy")}
    for package in RESULT_PACKAGES[backend()]:
        try:
            versions[backend()] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if backend() not in versions:
        raise records.StudyError(f"the Keras backend {backend()} is not installed: run `make setup`")
    return versions


def code_digest(family: str) -> str:
    """A digest of the code that decides a family's results; comments, docstrings and layout do not count."""
    folder = Path(__file__).parent
    return records.digest(*(_meaning((folder / f"{name}.py").read_text()) for name in RESULT_MODULES[family]))


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return repr(_shape(tree))


def _shape(node: Any) -> Any:
    """A syntax tree as nested tuples, the same in every Python: their own printers differ from version to version."""
    if isinstance(node, ast.AST):
        fields = [(name, _shape(value)) for name, value in ast.iter_fields(node)]
        return type(node).__name__, [(name, value) for name, value in fields if value not in (None, [])]
    return [_shape(part) for part in node] if isinstance(node, list) else node


def train_run(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """Train one run on one thread; the function that workers execute.

    Args:
        run: what to train.
        images: uint8 [n, 28, 28], the whole training set.
        labels: uint8 [n].
        progress: a file to keep the current epoch in, for a driver on the same machine.

    Returns:
        The files of the run's folder, or why there can be none.
    """
    if (found := installed_versions()) != run.versions:
        differing = [
            f"{name} {found.get(name, 'missing')} here, {run.versions.get(name, 'missing')} on the driver"
            for name in sorted(found.keys() | run.versions.keys())
            if found.get(name) != run.versions.get(name)
        ]
        return Failed(run, f"this worker's packages differ: {'; '.join(differing)}. Install the locked versions there.")
    with records.native_stderr_hidden():
        import keras  # here, so that a driver that only hands out runs needs no TensorFlow
        from threadpoolctl import threadpool_limits

        device = _prepare_device()
    keras.backend.clear_session()

    def report(epoch: int, row: dict[str, float]) -> None:
        if progress is not None:
            progress.write_text(f"epoch {epoch + 1}, loss {row['loss']:.4f}")

    started_at, started = time.time(), time.perf_counter()
    try:
        with threadpool_limits(1):
            model, table, facts = _fit(run, images, labels, report)
    except records.StudyError as error:
        return Failed(run, str(error))
    finally:
        if progress is not None:
            progress.unlink(missing_ok=True)
    table.insert(0, "seed", run.seed)
    content = model_bytes(model)
    facts = {
        "variant": run.variant,
        "seed": run.seed,
        "key": run.key,
        "parameters": run.recipe,
        "digests": {**run.digests, "model": records.digest(content)},
        "versions": run.versions,
        "backend": backend(),
        "device": device,
        **facts,
        "started": round(started_at, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }
    files = {
        "model.keras": content,
        "curves.csv": records.csv_bytes(table),
        "run.json": records.json_bytes(facts),
    }
    return Trained(run, files, facts)


def _prepare_device() -> str:
    """Settle threads and determinism of this process before its first operation; "cpu" or the GPU's name."""
    if backend() != "tensorflow":
        return backend()
    import tensorflow as tf

    # Every run compiles passes of its own, which TensorFlow takes for a loop that forgot to reuse one.
    tf.get_logger().setLevel("ERROR")
    # Runs go side by side, one thread each; the number of threads also decides the last bits of a result.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # several workers share the card
    tf.config.list_logical_devices()  # starts the runtime
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def _fit(
    run: Run, images: np.ndarray, labels: np.ndarray, report: Callable[[int, dict[str, float]], None]
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    recipe = dict(run.recipe)
    family = recipe.pop("family")
    if family == "network":
        return _fit_network(run, recipe, images, labels, report)
    from stages.train.ridge import fit_ridge, hidden_weights

    hidden = hidden_weights(recipe["hidden_units"], recipe["weight_sd"], run.seed) if family == "elm" else None
    assert run.dev is not None
    low, high = recipe["grid_powers"]
    model, rows, best, dev = fit_ridge(
        images, labels, run.dev, grid_powers=(low, high), tolerance=recipe["tolerance"], hidden=hidden
    )
    facts = {
        **{"epochs": None, "best_epoch": None, "dev_loss": dev["val_loss"], "dev_accuracy": dev["val_accuracy"]},
        **{"alpha_mse": best["mse"], "alpha_accuracy": best["accuracy"]},
    }
    return model, pd.DataFrame(rows), facts


def _fit_network(
    run: Run,
    recipe: dict[str, Any],
    images: np.ndarray,
    labels: np.ndarray,
    report: Callable[[int, dict[str, float]], None],
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    from stages.train.fit import fit_network
    from stages.train.network import build_network

    shape = {
        name: recipe[name]
        for name in ("filters", "pool", "conv_dropout", "units", "dropout", "initializer", "precision")
    }
    model = build_network(**shape, seed=run.seed)
    decay = recipe["decay"]
    curve, best_epoch = fit_network(
        model,
        images,
        labels,
        run.dev,
        learning_rate=recipe["learning_rate"],
        decay=(decay["start"], decay["rate"]) if decay else None,
        batch_size=recipe["batch_size"],
        epochs=recipe["epochs"],
        patience=recipe["patience"],
        restore_best=recipe["restore_best"],
        seed=run.seed,
        report=report,  # type: ignore[arg-type]  # called by position
    )
    finished = build_network(**shape, seed=run.seed)  # not compiled: the optimizer's state would triple the file
    finished.set_weights(model.get_weights())
    facts = {
        **{"epochs": len(curve), "best_epoch": best_epoch},
        **{"dev_loss": curve[best_epoch].get("val_loss"), "dev_accuracy": curve[best_epoch].get("val_accuracy")},
        **{"alpha_mse": None, "alpha_accuracy": None},
    }
    return finished, pd.DataFrame(curve, columns=records.CURVE_COLUMNS[1:]), facts


def model_bytes(model: Any) -> bytes:
    """A Keras archive whose bytes depend on the model alone.

    As Keras writes it, it holds the date (and so does zip) and addresses in memory as names of shared objects.
    """
    addresses: dict[bytes, int] = {}

    def renamed(match: re.Match[bytes]) -> bytes:
        return match[1] + str(addresses.setdefault(match[2], len(addresses))).encode()

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.keras"
        model.save(path)
        archive = zipfile.ZipFile(path)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as fixed:
            for name in sorted(archive.namelist()):
                content = archive.read(name)
                if name == "metadata.json":
                    content = records.json_bytes({"keras_version": importlib.metadata.version("keras")})
                elif name == "config.json":
                    content = re.sub(rb'("shared_object_id": )(\d+)', renamed, content)
                fixed.writestr(zipfile.ZipInfo(name), content)
        archive.close()
    return buffer.getvalue()
