"""The layers of a model in the forms of `patches.py` and `shifts.py`, for as long as the model is traced."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import keras

from stages.train.executors.batched_seeds.patches import convolve, convolve_short, drop, pool_pairs
from stages.train.executors.batched_seeds.shifts import convolve_shifted

SHIFTED_CHANNELS = 3  # of images; with more, a sum of shifted inputs is more arithmetic than a GPU does in passing


@dataclass(frozen=True)
class Forms:
    """Forms of convolutions that move fewer bytes, but have not been measured on a GPU.

    Attributes:
        first_as_shifts: the convolution that `first_convolution` finds, with its ReLU and pooling, as in `shifts.py`.
        short_patches: the patches of float32 convolutions in 16 bits.
    """

    first_as_shifts: bool = False
    short_patches: bool = False


TODAY = Forms()  # those of every study


@contextlib.contextmanager
def patched(model: keras.Model, forms: Forms) -> Iterator[None]:
    """Within the block, `model` computes its plain convolutions, 2×2 poolings and dropout in other forms.

    Other layers (dilated, grouped, channels first, overlapping windows, noise of another shape) compute as they are.

    Args:
        model: whose layers are changed.
        forms: of its convolutions.
    """
    changed: list[tuple[keras.Layer, str]] = []
    try:
        for layer, (name, form) in _forms_of_layers(model, forms).items():
            setattr(layer, name, form)
            changed.append((layer, name))
        yield
    finally:
        for layer, name in changed:
            delattr(layer, name)


def first_convolution(model: keras.Model) -> tuple[keras.layers.Conv2D, keras.layers.MaxPooling2D | None] | None:
    """The convolution that `shifts.py` can compute and the pooling directly behind it, if there are such.

    It is the first layer of a sequential model that is trained, so that nothing needs the gradient of its inputs; it
    has strides of 1, a bias, ReLU and inputs with at most `SHIFTED_CHANNELS` channels.
    """
    if not isinstance(model, keras.Sequential):
        return None
    trained = itertools.dropwhile(lambda layer: not layer.trainable_variables, model.layers)
    first, behind = next(trained, None), next(trained, None)
    if first is None or not _suits_shifts(first):
        return None
    return first, behind if _is_pool_of_pairs(behind) else None


def _suits_shifts(layer: keras.Layer) -> bool:
    return (
        _is_plain_convolution(layer)
        and layer.strides == (1, 1)
        and layer.use_bias
        and layer.activation is keras.activations.relu
        and layer.activity_regularizer is None
        and layer.kernel.shape[2] <= SHIFTED_CHANNELS
    )


def _forms_of_layers(model: keras.Model, forms: Forms) -> dict[keras.Layer, tuple[str, Callable]]:
    """For each layer that computes in another form: the name of its attribute and what replaces it."""
    found: dict[keras.Layer, tuple[str, Callable]] = {}
    for layer in model._flatten_layers():
        if _is_plain_convolution(layer):
            found[layer] = ("convolution_op", _convolution_of(layer, forms))
        elif _is_pool_of_pairs(layer):
            found[layer] = ("call", pool_pairs)
        elif _is_plain_dropout(layer):
            found[layer] = ("call", _dropout_of(layer))
    if forms.first_as_shifts and (first := first_convolution(model)):
        convolution, pooling = first
        found[convolution] = ("call", _shifts_of(convolution, pooled=pooling is not None))
        if pooling is not None:
            found[pooling] = ("call", lambda inputs: inputs)  # the convolution has pooled
    return found


def _convolution_of(layer: keras.layers.Conv2D, forms: Forms) -> Callable:
    def convolution(inputs: jax.Array, kernel: keras.Variable) -> jax.Array:
        inputs = jnp.asarray(inputs)
        form = convolve_short if forms.short_patches and inputs.dtype == jnp.float32 else convolve
        return form(inputs, jnp.asarray(kernel, inputs.dtype), layer.strides, layer.padding)

    return convolution


def _shifts_of(layer: keras.layers.Conv2D, *, pooled: bool) -> Callable:
    def call(inputs: jax.Array) -> jax.Array:
        kernel, bias = (jnp.asarray(variable, inputs.dtype) for variable in (layer.kernel, layer.bias))
        return convolve_shifted(jnp.asarray(inputs), kernel, bias, layer.padding, pooled)

    return call


def _dropout_of(layer: keras.layers.Dropout):  # type: ignore[no-untyped-def]
    def call(inputs, training=False):  # type: ignore[no-untyped-def]
        return drop(inputs, layer.rate, layer.seed_generator.next()) if training else inputs

    return call


def _is_plain_dropout(layer: keras.Layer) -> bool:
    return type(layer) is keras.layers.Dropout and layer.noise_shape is None and 0 < layer.rate < 1


def _is_plain_convolution(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and layer.dilation_rate == (1, 1)
        and layer.data_format == "channels_last"
    )


def _is_pool_of_pairs(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.MaxPooling2D
        and layer.pool_size == layer.strides == (2, 2)
        and layer.padding == "valid"
        and layer.data_format == "channels_last"
    )
