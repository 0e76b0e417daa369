"""The study's networks as lanes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from stages.params import Network
from stages.split.__main__ import dev_indices
from stages.train.executors.lanes import engine, programs
from stages.train.network import build_network

SHAPE = ("filters", "pool", "conv_dropout", "units", "dropout", "initializer", "precision")


def build(recipe: Network, seed: int) -> keras.Model:
    return build_network(**{name: getattr(recipe, name) for name in SHAPE}, seed=seed)


def shared(recipe: Network, convolution: str, dropout: str = "bytes") -> programs.Recipe:
    return programs.Recipe(build(recipe, 0), keras.optimizers.Adam(), convolution=convolution, dropout=dropout)


def lanes(recipe: Network, seeds: Sequence[int], images: int, dev_fraction: float) -> list[engine.Lane]:
    values = engine.initial_values(lambda seed: build(recipe, seed), seeds)
    return [
        engine.Lane(
            seed,
            variables,
            dev_indices(images, dev_fraction, seed) if recipe.dev_split else None,
            _rates(recipe),
            recipe.epochs,
            recipe.patience,
            recipe.restore_best,
        )
        for seed, variables in zip(seeds, values, strict=True)
    ]


def dev_images(recipe: Network, images: int, dev_fraction: float) -> int:
    return len(dev_indices(images, dev_fraction, 0)) if recipe.dev_split else 0


def _rates(recipe: Network) -> Callable[[int], float]:
    decay = recipe.decay

    def rate(epoch: int) -> float:
        if decay is None or epoch < decay.start:
            return recipe.learning_rate
        return recipe.learning_rate * math.exp(decay.rate * (decay.start - epoch))

    return rate


def step_flops(model: Any, batch_size: int) -> float:
    """Of the matrix products of one training step: forward, and both gradients (the first layer has one)."""
    first, total = True, 0.0
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            continue
        places = np.prod(layer.output.shape[1:-1]) if isinstance(layer, keras.layers.Conv2D) else 1
        total += 2 * float(np.prod(layer.kernel.shape)) * float(places) * batch_size * (2 if first else 3)
        first = False
    return total
