"""Recipes that train in a moment, as a variant of params.yaml would have them."""

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
