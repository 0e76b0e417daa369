"""The memory of a process that trains one run after the other."""

import contextlib
import functools
import gc
from collections.abc import Iterator

from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.recipes.shared.training import backend


@functools.cache
def freeze_libraries() -> None:
    """Exclude the objects of the libraries from garbage collection, which Keras starts before every run."""
    with native_stderr_hidden():
        import keras  # noqa: F401
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def gradients_released() -> Iterator[None]:
    """Remove the gradients that TensorFlow registers within the block.

    Keras's optimizers sum gradients over replicas by `tf.custom_gradient`, which registers a function for each graph
    and never removes it (tensorflow/python/ops/custom_gradient.py, `_graph_mode_decorator`). The function would keep
    the graph, the weights and the images of a run in memory, 15 MiB and more, until loky replaces the worker.
    """
    if backend() != "tensorflow":
        yield
        return
    from tensorflow.python.framework.ops import gradient_registry

    known = {*gradient_registry.list()}
    try:
        yield
    finally:
        for name in {*gradient_registry.list()} - known:
            if name.startswith("CustomGradient-"):
                del gradient_registry._registry[name]
