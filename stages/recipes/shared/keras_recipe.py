"""The base class of families that train a Keras model by epochs, with the fields of training."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import model_validator

from stages.recipes.shared import optimizers, rates
from stages.recipes.shared.augmentation import Augment
from stages.recipes.shared.epochs import run_facts
from stages.recipes.shared.recipe import Count, EpochCallback, FitResult, Positive, Rate, Recipe


class KerasRecipe(Recipe):
    """A Keras model that ends in a softmax, trained on the cross-entropy. A family adds its fields and `build`.

    Attributes:
        learning_rate: the learning rate; with a schedule, its maximum.
        decay: of the learning rate from epoch to epoch.
        batch_size: the number of images in a step.
        epochs: the maximum number of epochs.
        dev_split: train without the validation split, and evaluate on it after every epoch.
        patience: stop after this many epochs without a new lowest validation loss; None to train all epochs.
        restore_best: keep the weights of the lowest validation loss, not the last ones.
        optimizer: the Keras optimizer, by name and arguments.
        schedule: of the learning rate from step to step, instead of `decay`.
        label_smoothing: the share of each target that is spread over all classes.
        average: the decay per step of a moving average of the weights, which is evaluated and kept; 0 for none.
        augment: random changes of the training images.
    """

    learning_rate: Positive
    decay: rates.Decay | None
    batch_size: Count
    epochs: Count
    dev_split: bool
    patience: Count | None
    restore_best: bool
    optimizer: optimizers.Optimizer = optimizers.ADAM
    schedule: rates.Schedule | None = None
    label_smoothing: Rate = 0.0
    average: Rate = 0.0
    augment: Augment | None = None

    curve: ClassVar[list[str]] = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    facts: ClassVar[list[str]] = ["epochs", "best_epoch", "dev_loss", "dev_accuracy"]
    probabilities: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if not self.dev_split and (self.patience is not None or self.restore_best):
            raise ValueError("patience and restore_best depend on the validation loss: they need dev_split: true")
        if self.schedule and self.decay:
            raise ValueError("decay and schedule both set the learning rate: one of them should be null")
        if self.schedule and self.schedule.warmup >= self.epochs:
            raise ValueError(f"schedule.warmup should be shorter than the {self.epochs} epochs")
        return self

    @property
    def uses_validation(self) -> bool:
        return self.dev_split

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int, seeds: Iterator[int]) -> Any:
        """Build the model.

        Args:
            shape: of an image: (height, width) or (height, width, 3).
            classes: the number of classes.
            seeds: yields a new seed for every initializer and every layer that draws random numbers.

        Returns:
            A keras.Model from uint8 images [n, *shape] with values 0–255 to probabilities [n, classes].
        """

    def multiplications(self, shape: tuple[int, ...]) -> float:
        """An estimate of the multiplications of one forward pass over an image of `shape`."""
        return 1000.0 * float(np.prod(shape))

    def cost(self, shape: tuple[int, ...]) -> float:
        passes = self.epochs * (0.35 if self.patience else 1)
        return 3 * self.multiplications(shape[1:]) * shape[0] * passes

    def learning_rates(self) -> rates.Rates:
        """The learning rates of a run, by epoch or by step."""
        if self.schedule:
            return rates.by_step(self.learning_rate, self.schedule, self.epochs)
        return rates.by_epoch(self.learning_rate, self.decay)

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
        from stages.recipes.shared.fit import fit_network  # Keras takes seconds to import
        from stages.recipes.shared.models import build_and_check

        model, final = build_and_check(self.build, images, classes, seed)
        weights, curve, best_epoch = fit_network(
            model,
            optimizers.build(self.optimizer, self.average),
            images,
            labels,
            validation,
            rates=self.learning_rates(),
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            restore_best=self.restore_best,
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            seed=seed,
            on_epoch=on_epoch,
        )
        final.set_weights(weights)
        return FitResult(final, curve, run_facts(curve, best_epoch))
