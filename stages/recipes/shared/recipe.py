"""The base class of all recipes: the fields of a variant in params.yaml, and how one run of it is trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from many_seeds.errors import UserError

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

EpochCallback = Callable[[int, dict[str, float]], None]  # called after every epoch with its number and its row


class Strict(BaseModel):
    """Values of params.yaml: frozen, with exactly the declared names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class FitResult:
    """The result of one run.

    Attributes:
        model: the keras.Model, from uint8 images [n, height, width] or [n, height, width, 3] to outputs [n, classes].
        curve: a row for each epoch or step of a search, with the columns of the family's `curve`.
        facts: what the run records of itself, by the names of the family's `facts`.
    """

    model: Any
    curve: list[dict[str, Any]]
    facts: dict[str, float | int | None]


class DivergedError(UserError):
    """Training has diverged: a loss is infinite or not a number. The run is recorded as diverged.

    Attributes:
        row: the last row of the training curve, with that loss.
    """

    def __init__(self, message: str, row: dict[str, float]) -> None:
        super().__init__(message)
        self.row = row


class Recipe(Strict, ABC):
    """A variant of params.yaml. A family is a file in stages/recipes with a subclass of this class named `Recipe`.

    A field with its default value is not part of a run's key, so a field that is added later makes no run stale. A
    field that is added to a class of values, such as `Augment`, needs pydantic's `exclude_if` for that.

    Attributes:
        family: the name of the family's file.
        seeds: the number of seeds to train: 0 … seeds − 1. It does not affect the result of a run.
        curve: the columns of curves.csv, after the seed.
        facts: the names of `FitResult.facts`.
        probabilities: whether the outputs are probabilities, not just scores.
    """

    family: str
    seeds: Count

    curve: ClassVar[list[str]]
    facts: ClassVar[list[str]]
    probabilities: ClassVar[bool]

    @property
    @abstractmethod
    def uses_validation(self) -> bool:
        """Whether a run sets the validation split of its seed aside."""

    @abstractmethod
    def fit(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        validation: np.ndarray | None,
        seed: int,
        on_epoch: EpochCallback,
    ) -> FitResult:
        """Train one run.

        Args:
            images: uint8 [n, height, width] or [n, height, width, 3], all training images.
            labels: uint8 or uint16 [n].
            classes: the number of classes.
            validation: the sorted indices of the validation split, or None if `uses_validation` is false.
            seed: decides all randomness.
            on_epoch: called after every epoch.

        Returns:
            The model, its training curve and the facts of the run.

        Raises:
            DivergedError: a loss is infinite or not a number.
            UserError: this recipe can't be trained on these images.
        """

    def cost(self, shape: tuple[int, ...]) -> float:
        """An estimate of the multiplications of a run, so that the longest runs start first.

        Args:
            shape: of the training images, [n, height, width] or [n, height, width, 3].
        """
        return float(shape[0] * np.prod(shape[1:]) ** 2)

    def class_images(self, model: Any) -> np.ndarray | None:
        """The weights of each class as an image, [classes, height, width]; None for a model without such weights."""
        return None

    def key_fields(self) -> dict[str, Any]:
        """The fields that decide a run's result, as plain values: a part of the run's key."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in self.model_dump().items()
            if name != "seeds" and (fields[name].is_required() or getattr(self, name) != fields[name].default)
        }


def training_indices(count: int, validation: np.ndarray | None) -> np.ndarray:
    """The sorted indices, int64 [n], of the images to train on.

    Args:
        count: the number of images.
        validation: indices of the validation split, or None to train on all images.
    """
    chosen = np.ones(count, bool)
    if validation is not None:
        chosen[validation] = False
    return np.flatnonzero(chosen)
