"""An optimizer of Keras by its name and arguments."""

from typing import Any, Self

from pydantic import ConfigDict, model_validator

from stages.errors import StudyError
from stages.recipes.shared.recipe import Strict

OURS = {"learning_rate", "use_ema", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor"}


class Optimizer(Strict):
    """`name`, such as sgd or adamw, and beside it whatever arguments Keras's class of that name takes."""

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="after")
    def _plain_arguments(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in OURS:
                raise ValueError(f"{name} is not an argument here: learning_rate and average are fields of the variant")
            if not isinstance(value, bool | int | float | None):
                raise ValueError(f"{name} should be a number, true, false or null, received {value!r}")
        return self


ADAM = Optimizer(name="adam")


def build(optimizer: Optimizer, average: float) -> Any:
    """The keras.Optimizer, which keeps a moving average of the weights where `average` (its decay) is not 0.

    Raises:
        StudyError: Keras has no optimizer of that name, or it does not take these arguments.
    """
    import keras

    known = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.Optimizer) and value is not keras.Optimizer
    }
    if optimizer.name not in known:
        raise StudyError(f"optimizer.name should be one of {', '.join(sorted(known))}; received {optimizer.name!r}")
    arguments = dict(optimizer.model_extra or {})
    kind = known[optimizer.name]
    if kind is keras.optimizers.Adam and keras.backend.backend() == "tensorflow" and not arguments.get("amsgrad"):
        from stages.recipes.shared.tensorflow_passes import FusedAdam

        kind = FusedAdam
    if average:
        arguments |= {"use_ema": True, "ema_momentum": average}
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise StudyError(f"optimizer {optimizer.name}: {error}. See Keras's documentation of its arguments") from error
