"""Recipes that train within seconds, with the fields of a variant in params.yaml."""

from typing import Any

from stages.recipes.network import Recipe as Network
from stages.recipes.ridge import Recipe as Ridge

NETWORK: dict[str, Any] = {
    "family": "network",
    "seeds": 1,
    "filters": [],
    "pool": [],
    "conv_dropout": [],
    "units": [8],
    "dropout": 0.0,
    "initializer": "glorot_uniform",
    "precision": "float32",
    "learning_rate": 0.002,
    "decay": None,
    "batch_size": 32,
    "epochs": 2,
    "dev_split": False,
    "patience": None,
    "restore_best": False,
}
RIDGE: dict[str, Any] = {"family": "ridge", "seeds": 1, "grid_powers": [-8, 12], "tolerance": 0.5}


def network(**changes: Any) -> Network:
    return Network.model_validate({**NETWORK, **changes})


def ridge(**changes: Any) -> Ridge:
    return Ridge.model_validate({**RIDGE, **changes})


# A value other than the default for every field with a default.
LATER: dict[str, Any] = {
    "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
    "schedule": {"shape": "cosine", "warmup": 0.5},
    "label_smoothing": 0.1,
    "average": 0.99,
    "augment": {"shift": 2.0, "rotation": 10.0, "zoom": 0.1, "shear": 5.0, "elastic": 1.0},
    "kernel_size": 5,
    "padding": "same",
    "activation": "gelu",
    "batch_norm": True,
}
