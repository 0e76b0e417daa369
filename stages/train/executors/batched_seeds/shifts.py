"""A model's first convolution as shifted multiply-adds, fused with its ReLU and the max pooling behind it.

Images have few channels, so a convolution of them does little arithmetic and writes much: its outputs, which ReLU and
pooling read and write again, are many times as large as the images. As a sum of shifted images times numbers of the
kernel, the whole is one elementwise expression, which XLA can compile to one kernel that reads the images and writes
the pooled outputs. The backward pass computes it again instead of reading what the forward pass would have to write.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stages.train.executors.batched_seeds.patches import padded

TOGETHER = 8  # sums in one kernel: each needs shared memory, of which a CUDA kernel has 48 KiB unless it asks for more

Shifted = list[list[jax.Array]]  # [corners of a pooling window][rows * columns * channels of the kernel]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def convolve_shifted(inputs: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, pooled: bool) -> jax.Array:
    """A 2D convolution with strides of 1, its ReLU and, if `pooled`, max pooling of 2×2 windows side by side.

    Of equal maxima the first in a window gets the gradient, as in XLA's select-and-scatter. The inputs get none: they
    are images. Sums are in float32 for inputs of 16 bits, too.

    Args:
        inputs: [n, height, width, channels].
        kernel: [rows, columns, channels, filters].
        bias: [filters].
        padding: "valid" or "same".
        pooled: whether to pool.

    Returns:
        [n, height out, width out, filters] in the dtype of the inputs; pooled, half the height and half the width,
        rounded down.
    """
    return _forward(inputs, kernel, bias, padding, pooled)[0]


def _forward(
    inputs: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, pooled: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    corners = _corners(_shifted(inputs, kernel.shape, padding, pooled), kernel, bias)
    return jax.nn.relu(functools.reduce(jnp.maximum, corners)).astype(inputs.dtype), (inputs, kernel, bias)


def _backward(
    padding: str, pooled: bool, saved: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[None, jax.Array, jax.Array]:
    inputs, kernel, bias = saved
    shifted = _shifted(inputs, kernel.shape, padding, pooled)
    # The barrier keeps XLA from storing the corners of the forward pass, which it would recognize as the same.
    corners = _corners(shifted, *jax.lax.optimization_barrier((kernel, bias)))
    top = functools.reduce(jnp.maximum, corners)
    reached = jnp.where(top > 0, gradient.astype(jnp.float32), 0)
    products = [reached * _at_first(top, corners, views) for views in zip(*shifted, strict=True)]
    *of_kernel, of_bias = _sums([*products, reached])
    return None, jnp.stack(of_kernel).reshape(kernel.shape).astype(kernel.dtype), of_bias.astype(bias.dtype)


convolve_shifted.defvjp(_forward, _backward)


def _shifted(inputs: jax.Array, shape: Sequence[int], padding: str, pooled: bool) -> Shifted:
    """What each number of the kernel is multiplied with, float32 [n, height out, width out, 1]."""
    inputs = padded(inputs, shape[:2], (1, 1), padding).astype(jnp.float32)
    step = 2 if pooled else 1
    high, wide = ((size - window + 1) // step for size, window in zip(inputs.shape[1:3], shape[:2], strict=True))

    def view(top: int, left: int, channel: int) -> jax.Array:
        rows, columns = slice(top, top + step * high, step), slice(left, left + step * wide, step)
        return inputs[:, rows, columns, channel : channel + 1]

    return [
        [view(top + i, left + j, c) for i, j, c in itertools.product(*map(range, shape[:3]))]
        for top, left in itertools.product(range(step), repeat=2)
    ]


def _corners(shifted: Shifted, kernel: jax.Array, bias: jax.Array) -> list[jax.Array]:
    """The convolution at each corner of a pooling window, before its ReLU, float32 [n, high, wide, filters]."""
    numbers = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
    return [
        sum((view * numbers[k] for k, view in enumerate(views)), start=bias.astype(jnp.float32)) for views in shifted
    ]


def _at_first(top: jax.Array, corners: list[jax.Array], views: Sequence[jax.Array]) -> jax.Array:
    """The view of the first corner that has the maximum of its window."""
    chosen = views[-1]
    for corner, view in reversed(list(zip(corners[:-1], views[:-1], strict=True))):
        chosen = jnp.where(corner == top, view, chosen)
    return chosen


def _sums(terms: Sequence[jax.Array]) -> list[jax.Array]:
    """Sums over all axes but the last, `TOGETHER` by one reduction, so that what its terms share is computed once."""
    found: list[jax.Array] = []
    for first in range(0, len(terms), TOGETHER):
        group = list(terms[first : first + TOGETHER])
        zeros = [jnp.zeros((), jnp.float32)] * len(group)
        found += jax.lax.reduce(group, zeros, functools.partial(jax.tree.map, jnp.add), (0, 1, 2))
    return found
