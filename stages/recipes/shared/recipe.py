"""What every family of models says of itself: its fields in params.yaml, and how one run of it is trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Report = Callable[[int, dict[str, float]], None]  # is called after every epoch with its number and its row


class Strict(BaseModel):
    """Values of params.yaml: frozen, of just the types and names that are declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class Fitted:
    """What came of one run.

    model: the keras.Model, from uint8 images [n, height, width] or [n, height, width, 3] to outputs [n, classes].
    curve: a row for each epoch or step of a search, with the columns that the family's `curve` names.
    facts: what the run tells of itself, by the names in the family's `facts`.
    """

    model: Any
    curve: list[dict[str, Any]]
    facts: dict[str, float | int | None]


class Recipe(Strict, ABC):
    """A variant of params.yaml. A family is a file in stages/recipes with a subclass of this named `Recipe`.

    A field that has a default is no part of a run's key while it has it: a field that comes later trains nothing anew.

    family: the name of the family's file.
    seeds: how many seeds are trained: 0 … seeds − 1. Decides no run's result.
    """

    family: str
    seeds: Count

    curve: ClassVar[list[str]]  # columns of curves.csv, behind the seed
    facts: ClassVar[list[str]]  # what Fitted.facts tells
    probabilities: ClassVar[bool]  # whether the outputs are probabilities, or just scores

    @property
    @abstractmethod
    def uses_dev(self) -> bool:
        """Whether a run sets the dev images of its seed aside."""

    @abstractmethod
    def fit(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        dev: np.ndarray | None,
        seed: int,
        report: Report,
    ) -> Fitted:
        """Train one run.

        Args:
            images: uint8 [n, height, width] or [n, height, width, 3], all training images.
            labels: uint8 or uint16 [n].
            classes: how many classes there are.
            dev: the sorted indices of the dev images, or None where `uses_dev` is false.
            seed: decides all randomness.
            report: is called after every epoch.

        Raises:
            StudyError: no result can come of this recipe and these images.
        """

    def cost(self, shape: tuple[int, ...]) -> float:
        """A guess at the multiplications of a run on training images of `shape`, to start the longest runs first."""
        return float(shape[0] * np.prod(shape[1:]) ** 2)

    def pictures(self, model: Any) -> np.ndarray | None:
        """What the trained model looks for in each class, [classes, height, width], where that can be shown."""
        return None

    def decisive(self) -> dict[str, Any]:
        """The fields that decide a run's result, as plain values."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in self.model_dump().items()
            if name != "seeds" and (fields[name].is_required() or getattr(self, name) != fields[name].default)
        }
