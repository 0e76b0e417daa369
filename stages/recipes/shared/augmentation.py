"""Random geometric augmentation of the training images, with new draws in every step.

All transformations of an image are composed to one map from its pixels to coordinates in the original, which is
interpolated there once, bilinearly; so several transformations cost no more than one. Elastic distortion is Simard,
Steinkraus and Platt 2003, "Best practices for convolutional neural networks", section 2, with a displacement that is
smooth by construction: a uniform cubic B-spline with random coefficients.
"""

import math
from typing import Any

import numpy as np

from stages.recipes.shared.recipe import NotNegative, Positive, Rate, Strict


class Augment(Strict):
    """The limits of random changes. Each change is drawn uniformly from minus to plus its limit.

    Attributes:
        shift: in pixels, vertically and horizontally.
        rotation: in degrees.
        zoom: relative to the size; height and width are drawn independently.
        shear: in degrees.
        flip: whether half of the images are flipped horizontally.
        elastic: the standard deviation of each pixel's displacement, in pixels.
        elastic_knots: the distance between two knots of that displacement, in pixels.
    """

    shift: NotNegative = 0.0
    rotation: NotNegative = 0.0
    zoom: Rate = 0.0
    shear: NotNegative = 0.0
    flip: bool = False
    elastic: NotNegative = 0.0
    elastic_knots: Positive = 7.0


class Augmenter:
    """Augments batches of images, uint8 [n, height, width] or [n, height, width, 3], with draws from `seed` alone.

    Attributes:
        seed_generator: Keras's, whose state advances with every batch.
    """

    def __init__(self, augment: Augment, size: tuple[int, ...], seed: int) -> None:
        import keras

        self._augment = augment
        self._height, self._width = size
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._splines = [_spline(side, augment.elastic_knots) for side in size]

    def __call__(self, images: Any) -> Any:
        from keras import ops

        rows, columns = self._coordinates(ops.shape(images)[0])
        return _interpolate(images, ops.clip(rows, 0, self._height - 1), ops.clip(columns, 0, self._width - 1))

    def _coordinates(self, count: Any) -> tuple[Any, Any]:
        """The coordinates of each pixel in the original: rows and columns, float32 [n, height, width] each."""
        from keras import ops

        rows = np.arange(self._height, dtype=np.float32) - (self._height - 1) / 2
        columns = np.arange(self._width, dtype=np.float32) - (self._width - 1) / 2
        y, x = rows[None, :, None], columns[None, None, :]
        a, b, c, d = self._linear_map(count)
        shift_y, shift_x = (self._uniform(count, self._augment.shift) for _ in range(2))
        down = a * y + b * x + shift_y + (self._height - 1) / 2
        across = c * y + d * x + shift_x + (self._width - 1) / 2
        if self._augment.elastic:
            down, across = (ops.add(position, self._elastic(count)) for position in (down, across))
        return down, across

    def _linear_map(self, count: Any) -> tuple[Any, Any, Any, Any]:
        """The matrix [[a, b], [c, d]] of each image, [n, 1, 1] each: rotation times shear times zoom."""
        from keras import ops

        angle = self._uniform(count, math.radians(self._augment.rotation))
        slope = ops.tan(self._uniform(count, math.radians(self._augment.shear)))
        tall, wide = (1 + self._uniform(count, self._augment.zoom) for _ in range(2))
        if self._augment.flip:
            wide = wide * ops.sign(self._uniform(count, 1.0))
        sine, cosine = ops.sin(angle), ops.cos(angle)
        return cosine * tall, -sine * wide, (sine + cosine * slope) * tall, (cosine - sine * slope) * wide

    def _elastic(self, count: Any) -> Any:
        """Displacements along one axis, float32 [n, height, width], in pixels."""
        import keras
        from keras import ops

        down, across = self._splines
        knots = keras.random.normal((count, down.shape[1], across.shape[1]), seed=self.seed_generator)
        field = ops.matmul(ops.matmul(down, knots), across.T)
        return self._augment.elastic * field

    def _uniform(self, count: Any, limit: float) -> Any:
        """Uniform draws from −limit … limit, float32 [n, 1, 1]."""
        import keras

        return keras.random.uniform((count, 1, 1), -limit, limit, seed=self.seed_generator) if limit else 0.0


def _spline(size: int, spacing: float) -> np.ndarray:
    """Weights float32 [size, knots] of a uniform cubic B-spline, for independent knots and values of variance 1."""
    knots = math.ceil((size - 1) / spacing) + 4
    distance = np.abs(np.arange(size)[:, None] / spacing - (np.arange(knots)[None, :] - 1.5))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, (2 - distance).clip(0) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


def _interpolate(images: Any, rows: Any, columns: Any) -> Any:
    """`images`, uint8, at coordinates float32 [n, height, width] each, by bilinear interpolation."""
    from keras import ops

    height, width = images.shape[1:3]
    top, left = ops.floor(rows), ops.floor(columns)
    below, right = ops.minimum(top + 1, height - 1), ops.minimum(left + 1, width - 1)
    pixels = ops.reshape(images, (-1, height * width, *images.shape[3:]))

    def pixel_at(row: Any, column: Any) -> Any:
        index = ops.cast(ops.reshape(row * width + column, (-1, height * width)), "int32")
        if len(images.shape) == 4:
            index = ops.repeat(index[:, :, None], images.shape[3], axis=2)
        return ops.reshape(ops.cast(ops.take_along_axis(pixels, index, axis=1), "float32"), (-1, *images.shape[1:]))

    dy, dx = rows - top, columns - left
    if len(images.shape) == 4:
        dy, dx = dy[..., None], dx[..., None]
    upper = (1 - dx) * pixel_at(top, left) + dx * pixel_at(top, right)
    lower = (1 - dx) * pixel_at(below, left) + dx * pixel_at(below, right)
    return ops.cast(ops.round((1 - dy) * upper + dy * lower), "uint8")
