"""Networks of convolutions, then dense layers, then a softmax."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import model_validator

from many_seeds.errors import UserError
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import Count, Rate


class Recipe(KerasRecipe):
    """A sequential network, described by its layers.

    Attributes:
        filters: the number of filters of each convolution.
        pool: whether 2×2 max pooling follows each convolution.
        conv_dropout: the dropout rate after each convolution and its pooling; 0 for no dropout.
        units: the number of units of each dense layer.
        dropout: the dropout rate after each dense layer; 0 for no dropout.
        initializer: of the kernels of the hidden layers; the output layer has Keras's default. "normal" has a standard
            deviation of 0.05.
        precision: the dtype policy of the hidden layers.
        kernel_size: the side of the kernels of each convolution, or of all, in pixels.
        padding: "valid" for none, "same" for zeros around the image.
        activation: of the hidden layers.
        batch_norm: batch normalization between each hidden layer and its activation (Ioffe and Szegedy 2015).
    """

    filters: list[Count]
    pool: list[bool]
    conv_dropout: list[Rate]
    units: list[Count]
    dropout: Rate
    initializer: Literal["glorot_uniform", "glorot_normal", "normal"]
    precision: Literal["float32", "mixed_bfloat16"]
    kernel_size: Count | list[Count] = 3
    padding: Literal["valid", "same"] = "valid"
    activation: Literal["relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh"] = "relu"
    batch_norm: bool = False

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.filters) == len(self.pool) == len(self.conv_dropout) == len(self._kernel_sizes()):
            raise ValueError(
                "filters, pool, conv_dropout and a list of kernel_size need one entry for each convolution, received "
                f"{len(self.filters)}, {len(self.pool)}, {len(self.conv_dropout)} and {len(self._kernel_sizes())}"
            )
        return self

    def _kernel_sizes(self) -> list[int]:
        return self.kernel_size if isinstance(self.kernel_size, list) else [self.kernel_size] * len(self.filters)

    def multiplications(self, shape: tuple[int, ...]) -> float:
        height, width, channels = (*shape, 1)[:3]
        products = 0
        for filters, kernel, pooled in zip(self.filters, self._kernel_sizes(), self.pool, strict=True):
            border = 0 if self.padding == "same" else kernel - 1
            height, width = height - border, width - border
            products += height * width * kernel**2 * channels * filters
            height, width, channels = (height // 2, width // 2, filters) if pooled else (height, width, filters)
        inputs = height * width * channels
        for units in self.units:
            products += inputs * units
            inputs = units
        return float(products)

    def build(self, shape: tuple[int, ...], classes: int, seeds: Iterator[int]) -> Any:
        import keras
        from keras import layers

        self._check_size(shape)
        stack = [layers.Input(shape, dtype="uint8", name="pixels")]
        stack.append(layers.Rescaling(1 / 255, dtype="float32", name="scale"))
        if self.filters and len(shape) == 2:
            stack.append(layers.Reshape((*shape, 1), name="channel"))
        for i in range(1, len(self.filters) + 1):
            stack += self._convolution(i, seeds)
        stack.append(layers.Flatten(dtype=self.precision, name="flatten"))
        for i, units in enumerate(self.units, start=1):
            kernel = self._initializer(next(seeds))
            stack += self._with_activation(layers.Dense, units, name=f"dense_{i}", kernel_initializer=kernel)
            if self.dropout:
                stack.append(layers.Dropout(self.dropout, seed=next(seeds), dtype=self.precision, name=f"dropout_{i}"))
        kernel = keras.initializers.GlorotUniform(seed=next(seeds))
        stack.append(
            layers.Dense(
                classes, activation="softmax", kernel_initializer=kernel, dtype="float32", name="probabilities"
            )
        )
        return keras.Sequential(stack, name="network")

    def _convolution(self, i: int, seeds: Iterator[int]) -> list[Any]:
        """The layers of the i-th convolution, counted from 1."""
        from keras import layers

        stack = self._with_activation(
            layers.Conv2D,
            self.filters[i - 1],
            self._kernel_sizes()[i - 1],
            name=f"convolution_{i}",
            padding=self.padding,
            kernel_initializer=self._initializer(next(seeds)),
        )
        if self.pool[i - 1]:
            stack.append(layers.MaxPooling2D(dtype=self.precision, name=f"pool_{i}"))
        if self.conv_dropout[i - 1]:
            rate, name = self.conv_dropout[i - 1], f"convolution_dropout_{i}"
            stack.append(layers.Dropout(rate, seed=next(seeds), dtype=self.precision, name=name))
        return stack

    def _with_activation(self, layer: Any, *sizes: int, name: str, **arguments: Any) -> list[Any]:
        """A layer with its activation and, where the recipe says so, batch normalization between them."""
        from keras import layers

        if not self.batch_norm:
            return [layer(*sizes, activation=self.activation, dtype=self.precision, name=name, **arguments)]
        return [
            layer(*sizes, use_bias=False, dtype=self.precision, name=name, **arguments),
            layers.BatchNormalization(dtype=self.precision, name=f"{name}_norm"),
            layers.Activation(self.activation, dtype=self.precision, name=f"{name}_activation"),
        ]

    def _initializer(self, seed: int) -> Any:
        from keras import initializers

        if self.initializer == "normal":
            return initializers.RandomNormal(stddev=0.05, seed=seed)
        initializer_classes = {"glorot_uniform": initializers.GlorotUniform, "glorot_normal": initializers.GlorotNormal}
        return initializer_classes[self.initializer](seed=seed)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        """Raise a UserError if the convolutions and poolings shrink images of `shape` to nothing."""
        height, width = shape[:2]
        for kernel, pooled in zip(self._kernel_sizes(), self.pool, strict=True):
            border = 0 if self.padding == "same" else kernel - 1
            height, width = ((side - border) // (2 if pooled else 1) for side in (height, width))
            if min(height, width) < 1:
                raise UserError(
                    f"{len(self.filters)} convolutions with kernel_size {self.kernel_size} and pool {self.pool} leave "
                    f"nothing of {shape[0]}x{shape[1]} pixels"
                )
