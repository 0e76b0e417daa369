"""The closed-form variants on the host's cores, while the device trains networks."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd


def fit_block(
    recipe: Any,
    seeds: Sequence[int],
    images: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    fraction: float,
    jobs: int,
) -> Iterator[tuple[int, np.ndarray, pd.DataFrame, dict[str, Any]]]:
    """For each seed in turn: outputs float32 [test images, 10], its search for alpha, its facts."""
    tasks = (joblib.delayed(_fit)(recipe, seed, images, labels, test, fraction) for seed in seeds)
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        yield from joblib.Parallel(return_as="generator")(tasks)


def _fit(
    recipe: Any, seed: int, images: np.ndarray, labels: np.ndarray, test: np.ndarray, fraction: float
) -> tuple[int, np.ndarray, pd.DataFrame, dict[str, Any]]:
    os.environ |= {"JAX_PLATFORMS": "cpu"}  # before Keras is imported: the device is taken
    from stages.split.__main__ import dev_indices
    from stages.train.ridge import _features, fit_ridge, hidden_weights

    hidden = hidden_weights(recipe.hidden_units, recipe.weight_sd, seed) if recipe.family == "elm" else None
    low, high = recipe.grid_powers
    model, rows, best, dev = fit_ridge(
        images,
        labels,
        dev_indices(len(images), fraction, seed),
        grid_powers=(low, high),
        tolerance=recipe.tolerance,
        hidden=hidden,
    )
    kernel, bias = model.get_weights()[-2:]
    outputs = (_features(test, hidden) @ kernel + bias).astype(np.float32)
    facts = {"dev_loss": dev["val_loss"], "dev_accuracy": dev["val_accuracy"]}
    return seed, outputs, pd.DataFrame(rows), {**facts, "alpha_mse": best["mse"], "alpha_accuracy": best["accuracy"]}
