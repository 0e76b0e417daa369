"""Families that are trained by epochs: a Keras model, and the fields that say how it learns."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import model_validator

from stages.recipes.shared import optimizers, rates
from stages.recipes.shared.augmentation import Augment
from stages.recipes.shared.recipe import Count, Fitted, Positive, Rate, Recipe, Report


class Trained(Recipe):
    """A model that ends in a softmax, trained on cross-entropy. A family adds its fields and `build`.

    learning_rate: the highest one of a schedule.
    decay: of the rate from epoch to epoch.
    batch_size: images a step.
    epochs: at most so many.
    dev_split: train without the dev images, and see their loss after every epoch.
    patience: stop after so many epochs without a lower dev loss; None to train all epochs.
    restore_best: end with the weights of the lowest dev loss.
    optimizer: of Keras, by name and arguments.
    schedule: of the rate from step to step, in place of `decay`.
    label_smoothing: the share of each target that is spread over all classes.
    average: the decay, from step to step, of a moving average of the weights, which is what is evaluated and kept.
    augment: how far images are changed at random.
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
    def _fields_fit_together(self) -> Self:
        if not self.dev_split and (self.patience is not None or self.restore_best):
            raise ValueError("patience and restore_best watch the dev loss: they need dev_split: true")
        if self.schedule and self.decay:
            raise ValueError("decay and schedule both set the learning rate: one of them should be null")
        if self.schedule and self.schedule.warmup >= self.epochs:
            raise ValueError(f"schedule.warmup should be shorter than the {self.epochs} epochs")
        return self

    @property
    def uses_dev(self) -> bool:
        return self.dev_split

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int, seeds: Iterator[int]) -> Any:
        """A keras.Model from uint8 images [n, *shape] (grey values 0–255) to probabilities [n, classes].

        Every layer and initializer that draws takes its seed from `seeds`.
        """

    def multiplications(self, shape: tuple[int, ...]) -> float:
        """A guess at those that one look at an image of `shape` takes."""
        return 1000.0 * float(np.prod(shape))

    def cost(self, shape: tuple[int, ...]) -> float:
        passes = self.epochs * (0.35 if self.patience else 1)
        return 3 * self.multiplications(shape[1:]) * shape[0] * passes

    def rates(self) -> rates.Rates:
        if self.schedule:
            return rates.by_step(self.learning_rate, self.schedule, self.epochs)
        return rates.by_epoch(self.learning_rate, self.decay)

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
        from stages.recipes.shared.fit import fit_network  # Keras takes seconds to import
        from stages.recipes.shared.models import built_twice

        model, finished = built_twice(self.build, images, classes, seed)
        weights, curve, best = fit_network(
            model,
            optimizers.build(self.optimizer, self.average),
            images,
            labels,
            dev,
            rates=self.rates(),
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            restore_best=self.restore_best,
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            seed=seed,
            report=report,
        )
        finished.set_weights(weights)
        scores = {"dev_loss": curve[best].get("val_loss"), "dev_accuracy": curve[best].get("val_accuracy")}
        return Fitted(finished, curve, {"epochs": len(curve), "best_epoch": best, **scores})
