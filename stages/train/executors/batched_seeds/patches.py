"""Convolution, max pooling and dropout in forms that stay fast when many models run as one batch.

With a kernel for each lane, a convolution becomes a grouped convolution, whose backward pass is slow on CUDA
(https://github.com/jax-ml/jax/issues/13800); patches times a kernel matrix becomes a batched matrix product instead.
The backward pass of max pooling, a select-and-scatter, is slow too; where windows don't overlap, it is a comparison.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

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
    patches = _patches(inputs, kernel.shape, strides, padding)
    product = patches.reshape(-1, patches.shape[-1]) @ _matrix(kernel)
    return product.reshape(*patches.shape[:3], -1)


def _matrix(kernel: jax.Array) -> jax.Array:
    """[rows * columns * channels + zeros up to a multiple of `ALIGNED`, filters]."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return jnp.pad(matrix, [(0, -len(matrix) % ALIGNED), (0, 0)])


def padded(inputs: jax.Array, window: Sequence[int], strides: Sequence[int], padding: str) -> jax.Array:
    """Inputs [n, height, width, channels] with the zeros that "same" puts around them, none for "valid"."""
    if padding == "valid":
        return inputs
    around = jax.lax.padtype_to_pads(inputs.shape[1:3], window, strides, "SAME")
    return jnp.pad(inputs, [(0, 0), *around, (0, 0)])


def _patches(inputs: jax.Array, shape: Sequence[int], strides: Sequence[int], padding: str) -> jax.Array:
    """What each output looks at, [n, height out, width out, length of the columns of `_matrix`].

    Args:
        inputs: [n, height, width, channels].
        shape: of the kernel, [rows, columns, channels, filters].
        strides: of height and width.
        padding: "valid" or "same".
    """
    window, missing = shape[:2], -math.prod(shape[:3]) % ALIGNED
    inputs = padded(inputs, window, strides, padding)
    high, wide = ((size - w) // s + 1 for size, w, s in zip(inputs.shape[1:3], window, strides, strict=True))
    parts = [
        inputs[:, i : i + (high - 1) * strides[0] + 1 : strides[0], j : j + (wide - 1) * strides[1] + 1 : strides[1]]
        for i, j in itertools.product(range(window[0]), range(window[1]))
    ]
    if missing:
        parts.append(jnp.zeros((*parts[0].shape[:3], missing), inputs.dtype))
    return jnp.concatenate(parts, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_short(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: str) -> jax.Array:
    """As `convolve` for float32, with patches of 16 bits, which are the most of what it moves.

    Forward, patches and matrix are float16, which has as many digits as TF32 (11 bits), the format in which a GPU
    multiplies float32 anyway. Its range is narrower, so both are scaled by powers of two, which is exact, such that
    the greatest magnitude of each is from 2¹⁴ to 2¹⁵: nothing overflows, and numbers down to 2⁻²⁸ of the greatest keep
    all digits. A fallback by `jax.lax.cond` instead would compute both forms for all lanes under `jax.vmap`.

    Gradients are bfloat16 (8 bits), whose range is that of float32. All sums are in float32. The backward pass makes
    its patches again from the inputs.

    Args:
        inputs: float32 [n, height, width, channels].
        kernel: float32 [rows, columns, channels, filters].
        strides: of height and width.
        padding: "valid" or "same".

    Returns:
        float32 [n, height out, width out, filters].
    """
    return _short_forward(inputs, kernel, strides, padding)[0]


def _short_forward(
    inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    scale, matrix_scale = _scale(inputs), _scale(kernel)
    patches = _patches((inputs * scale).astype(jnp.float16), kernel.shape, strides, padding)
    matrix = _matrix((kernel * matrix_scale).astype(jnp.float16))
    # Two divisions, since the product of both scales may be infinite.
    return jnp.matmul(patches, matrix, preferred_element_type=jnp.float32) / scale / matrix_scale, (inputs, kernel)


def _scale(values: jax.Array) -> jax.Array:
    """The power of two that brings the greatest magnitude between 2¹⁴ and 2¹⁵, as far as float32 has it."""
    _, exponent = jnp.frexp(jnp.abs(values).max())
    return jnp.ldexp(jnp.float32(1), jnp.clip(15 - exponent, -126, 126))


def _short_backward(
    strides: tuple[int, int], padding: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = saved
    gradient, short = gradient.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)

    def unfold(values: jax.Array) -> jax.Array:
        return _patches(values, kernel.shape, strides, padding)

    patches = unfold(inputs.astype(jnp.bfloat16))
    of_matrix = jnp.einsum("nhwd,nhwf->df", patches, gradient, preferred_element_type=jnp.float32)
    # Tensor cores sum in float32 also where the result is rounded to bfloat16.
    of_patches = jnp.matmul(gradient, _matrix(short).T, preferred_element_type=jnp.bfloat16)
    (of_inputs,) = jax.linear_transpose(unfold, inputs)(of_patches.astype(jnp.float32))
    return of_inputs, of_matrix[: math.prod(kernel.shape[:3])].reshape(kernel.shape)


convolve_short.defvjp(_short_forward, _short_backward)


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
