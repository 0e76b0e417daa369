"""The shortest time of a training step that the memory and the products of a device allow.

Bytes and operations are counted from the layers of a model, for one lane, in float32. Two ways are compared:

- as it is: products, patches, and groups of elementwise operations are kernels of their own. Each kernel reads its
  inputs from the device's memory once, and writes its outputs once.
- fused: a layer with weights is one kernel with the activation, pooling and dropout behind it. It reads its input and
  writes its output; patches and masks are computed again in the backward pass; the product that gives the gradient of
  the weights also applies Adam's update.

As it is, convolutions may have other forms: a first one as shifts is one kernel with its activation and pooling, as if
fused; short patches have 2 bytes and are made again in the backward pass.

The bound is that of the roofline model (Williams, Waterman and Patterson, "Roofline", Communications of the ACM 52(4),
2009): the longer one of the times for bytes and for operations.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from stages.train.executors.batched_seeds.forms import TODAY, Forms, first_convolution
from stages.train.executors.batched_seeds.patches import ALIGNED

FLOAT, SHORT = 4, 2  # bytes
# Weights are read forward; Adam reads and writes them with both moments; the gradient is written and read between.
STATE_STREAMS, FUSED_STATE_STREAMS = 9, 7


@dataclass(frozen=True)
class Step:
    """What one training step of one lane moves and computes.

    Attributes:
        bytes: between the device's memory and its cores, as it is.
        fused_bytes: the same in the fused form.
        operations: of the matrix products, where a multiplication and an addition are two.
    """

    bytes: float
    fused_bytes: float
    operations: float

    def bound(self, device: dict[str, Any], *, fused: bool = False) -> float:
        """The shortest time, in seconds.

        Args:
            device: "copy_gb_s", the bytes read and written by a copy, in GB/s; "tflops" of products in "float32".
            fused: whether in the fused form.
        """
        moved = self.fused_bytes if fused else self.bytes
        return max(moved / (device["copy_gb_s"] * 1e9), self.operations / (device["tflops"]["float32"] * 1e12))


@dataclass(frozen=True)
class _Block:
    """A layer with weights and the layers behind it, up to the next one with weights; sizes are elements of a batch.

    Attributes:
        weights: of the layer, with its biases.
        operations: of the forward product.
        inputs: its input.
        patches: the patches of a convolution; 0 for a dense layer.
        product: the output of the product.
        pooled: whether the product is pooled.
        dropped: the elements that dropout draws for.
        outputs: the output of the last layer.
    """

    weights: int
    operations: float
    inputs: float
    patches: float
    product: float
    pooled: bool
    dropped: float
    outputs: float

    def moved(self, *, first: bool, short: bool) -> float:
        """The bytes without the state, as it is. The first block reads uint8 images and needs no gradient of them.

        Args:
            first: whether the block is the first one.
            short: whether the patches have 16 bits.
        """
        inputs = self.inputs / FLOAT if first else self.inputs
        short = short and self.patches > 0
        made = 2 * self.patches * (SHORT / FLOAT if short else 1)  # patches, written and read
        greatest = inputs if short else 0.0  # read for their greatest magnitude
        forward = greatest + inputs + made + 2 * self.product + 2 * self.product * self.pooled + self.outputs
        backward = self.outputs + (self.product if self.pooled else self.outputs) + 2 * self.product
        backward += inputs + made if short else self.patches or inputs
        if not first:
            backward += self.product + made + self.inputs
        return FLOAT * (forward + backward) + 2 * self.dropped

    def moved_as_shifts(self) -> float:
        """The same for a first convolution as shifts, behind which dropout has draws of its own."""
        return self.moved_if_fused(first=True) + 2 * self.dropped

    def moved_if_fused(self, *, first: bool) -> float:
        """The same in the fused form."""
        inputs = self.inputs / FLOAT if first else self.inputs
        gradient = 0.0 if first else self.inputs
        return FLOAT * (2 * inputs + gradient + 2 * self.outputs)


def step_of(model: Any, batch_size: int, forms: Forms = TODAY) -> Step:
    """Count a training step of a sequential model of dense, convolution, pooling and dropout layers with Adam.

    Args:
        model: a `keras.Model`.
        batch_size: the number of images.
        forms: of the convolutions, as it is.
    """
    blocks = _blocks(model, batch_size)
    shifted = forms.first_as_shifts and first_convolution(model) is not None
    moved = fused = operations = 0.0
    for index, block in enumerate(blocks):
        first = index == 0
        read_again = 0 if first else 1  # the weights, for the gradient of the input
        moved += (STATE_STREAMS + read_again) * FLOAT * block.weights
        moved += block.moved_as_shifts() if first and shifted else block.moved(first=first, short=forms.short_patches)
        fused += (FUSED_STATE_STREAMS + read_again) * FLOAT * block.weights + block.moved_if_fused(first=first)
        operations += block.operations * (2 if first else 3)
    return Step(moved, fused, operations)


def _blocks(model: Any, batch_size: int) -> list[_Block]:
    layers = model.layers
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)]
    ends = [*starts[1:], len(layers)]
    return [_block(layers[start:end], batch_size) for start, end in zip(starts, ends, strict=True)]


def _block(layers: list[Any], batch_size: int) -> _Block:
    def elements(tensor: Any) -> float:
        return float(np.prod(tensor.shape[1:])) * batch_size

    layer, *behind = layers
    depth, filters = int(np.prod(layer.kernel.shape[:-1])), layer.kernel.shape[-1]
    places = elements(layer.output) / filters
    convolution = isinstance(layer, keras.layers.Conv2D)
    return _Block(
        weights=sum(int(np.prod(weight.shape)) for weight in layer.weights),
        operations=2 * places * depth * filters,
        inputs=elements(layer.input),
        patches=places * (depth + -depth % ALIGNED) if convolution else 0.0,
        product=elements(layer.output),
        pooled=any(isinstance(other, keras.layers.MaxPooling2D) for other in behind),
        dropped=sum(elements(other.output) for other in behind if isinstance(other, keras.layers.Dropout)),
        outputs=elements(layers[-1].output),
    )
