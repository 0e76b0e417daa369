"""Keras optimizers by name and arguments."""

from typing import Any, Self

from pydantic import ConfigDict, model_validator

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Strict

# Arguments of Keras's optimizers that fields of the recipe decide, or that would change what they mean.
RESERVED = {"learning_rate", "use_ema", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor"}


class Optimizer(Strict):
    """A Keras optimizer. All other fields are arguments of its class.

    Attributes:
        name: the name of Keras's class in lower case, such as sgd or adamw.
    """

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in RESERVED:
                raise ValueError(f"{name} is not an argument here: learning_rate and average are fields of the variant")
            if not isinstance(value, bool | int | float | None):
                raise ValueError(f"{name} should be a number, true, false or null, received {value!r}")
        return self


ADAM = Optimizer(name="adam")


def build(optimizer: Optimizer, average: float) -> Any:
    """Build the keras.Optimizer.

    Args:
        optimizer: its name and arguments.
        average: the decay of a moving average of the weights, which the optimizer keeps; 0 for none.

    Raises:
        UserError: Keras has no optimizer of that name, or it does not take these arguments.
    """
    import keras

    known = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.Optimizer) and value is not keras.Optimizer
    }
    if optimizer.name not in known:
        raise UserError(f"optimizer.name should be one of {', '.join(sorted(known))}; received {optimizer.name!r}")
    arguments = dict(optimizer.model_extra or {})
    optimizer_class = known[optimizer.name]
    is_adam = optimizer_class is keras.optimizers.Adam
    if is_adam and keras.backend.backend() == "tensorflow" and not arguments.get("amsgrad"):
        from stages.recipes.shared.tensorflow_passes import FusedAdam

        optimizer_class = FusedAdam
    if average:
        arguments |= {"use_ema": True, "ema_momentum": average}
    try:
        return optimizer_class(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer {optimizer.name}: {error}. See Keras's documentation of its arguments") from error
