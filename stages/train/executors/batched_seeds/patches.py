"""Convolution, max pooling and dropout in forms that stay fast when many models run as one batch.

With a kernel for each lane, a convolution becomes a grouped convolution, whose backward pass is slow on CUDA
(https://github.com/jax-ml/jax/issues/13800); patches times a kernel matrix becomes a batched matrix product instead.
The backward pass of max pooling, a select-and-scatter, is slow too; where windows don't overlap, it is a comparison.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import keras

ALIGNED = 8  # tensor cores want the inner side of a product to be a multiple of this


def convolve(inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: str) -> jax.Array:
    """A 2D convolution as a matrix product.

    Args:
        inputs: [n, height, width, channels].
        kernel: [rows, columns, channels, filters].
        strides: of height and width.
        padding: "valid" or "same".

    Returns:
        [n, height out, width out, filters], as `keras.ops.conv`.
    """
    if padding == "same":
        around = jax.lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, "SAME")
        inputs = jnp.pad(inputs, [(0, 0), *around, (0, 0)])
    rows, columns, channels, filters = kernel.shape
    depth = rows * columns * channels
    missing = -depth % ALIGNED
    patches = _patches(inputs, (rows, columns), strides, missing)
    matrix = jnp.pad(kernel.reshape(depth, filters), [(0, missing), (0, 0)])
    product = patches.reshape(-1, depth + missing) @ matrix
    return product.reshape(*patches.shape[:3], filters)


def _patches(inputs: jax.Array, window: tuple[int, int], strides: Sequence[int], missing: int) -> jax.Array:
    """[n, height out, width out, rows * columns * channels + `missing` zeros]: what each output looks at."""
    high, wide = ((size - w) // s + 1 for size, w, s in zip(inputs.shape[1:3], window, strides, strict=True))
    parts = [
        inputs[:, i : i + (high - 1) * strides[0] + 1 : strides[0], j : j + (wide - 1) * strides[1] + 1 : strides[1]]
        for i, j in itertools.product(range(window[0]), range(window[1]))
    ]
    if missing:
        parts.append(jnp.zeros((*parts[0].shape[:3], missing), inputs.dtype))
    return jnp.concatenate(parts, axis=-1)


@jax.custom_vjp
def pool_pairs(inputs: jax.Array) -> jax.Array:
    """Max pooling of 2×2 windows side by side: [n, height, width, channels] to [n, height // 2, width // 2, channels].

    Of equal maxima the first in a window gets the gradient, as in XLA's select-and-scatter.
    """
    return _pool_forward(inputs)[0]


def _corners(inputs: jax.Array) -> list[jax.Array]:
    high, wide = inputs.shape[1] // 2 * 2, inputs.shape[2] // 2 * 2
    return [inputs[:, i:high:2, j:wide:2] for i in (0, 1) for j in (0, 1)]


def _pool_forward(inputs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    corners = _corners(inputs)
    top = jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))
    return top, (inputs, top)


def _pool_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    inputs, top = saved
    taken = jnp.zeros(top.shape, bool)
    shares = []
    for corner in _corners(inputs):
        first = (corner == top) & ~taken
        shares.append(jnp.where(first, gradient, jnp.zeros_like(gradient)))
        taken |= first
    n, high, wide, channels = top.shape
    upper, lower = jnp.stack(shares[:2], axis=3), jnp.stack(shares[2:], axis=3)
    spread = jnp.stack([upper, lower], axis=2).reshape(n, 2 * high, 2 * wide, channels)
    odd = [(0, 0), (0, inputs.shape[1] - 2 * high), (0, inputs.shape[2] - 2 * wide), (0, 0)]
    return (jnp.pad(spread, odd),)


pool_pairs.defvjp(_pool_forward, _pool_backward)


def drop(inputs: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Dropout that takes a byte for each value, or two, where JAX's own takes two words.

    Args:
        inputs: of any shape.
        rate: the share of zeros, to 1/65,536.
        key: uint32 [2].
    """
    whole = float(rate * 256).is_integer()
    parts, kind = (4, jnp.uint8) if whole else (2, jnp.uint16)
    count = inputs.size
    # The barrier keeps XLA from drawing a word anew for each of its parts.
    words = jax.lax.optimization_barrier(jax.random.bits(key, (-(-count // parts),), jnp.uint32))
    draws = jax.lax.bitcast_convert_type(words, kind).reshape(-1)[:count].reshape(inputs.shape)
    kept = draws >= round(rate * (256 if whole else 65536))
    return jnp.where(kept, inputs / (1 - rate), jnp.zeros_like(inputs))


@contextlib.contextmanager
def patched(model: keras.Model, *, convolution: bool, dropout: bool) -> Iterator[None]:
    """Within the block, `model` computes its plain convolutions and 2×2 poolings, or its dropout, in these forms.

    Other layers (dilated, grouped, channels first, overlapping windows, noise of another shape) compute as they are.
    """
    changed: list[tuple[keras.Layer, str]] = []
    try:
        for layer in model._flatten_layers():
            if convolution and _is_plain_convolution(layer):
                layer.convolution_op = _convolution_of(layer)
                changed.append((layer, "convolution_op"))
            elif convolution and _is_pool_of_pairs(layer):
                layer.call = pool_pairs
                changed.append((layer, "call"))
            elif dropout and _is_plain_dropout(layer):
                layer.call = _dropout_of(layer)
                changed.append((layer, "call"))
        yield
    finally:
        for layer, name in changed:
            delattr(layer, name)


def _convolution_of(layer: keras.layers.Conv2D):  # type: ignore[no-untyped-def]
    return lambda inputs, kernel: convolve(
        jnp.asarray(inputs), jnp.asarray(kernel, inputs.dtype), layer.strides, layer.padding
    )


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
