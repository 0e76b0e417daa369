"""The name of the device, and the speed of its matrix products and its memory, measured with JAX."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

COPIED_FLOATS = 2**28  # 1 GiB


def facts(small: bool) -> dict[str, Any]:
    """Returns: device, jax, memory_gib; tflops of "float32" (TF32 where JAX uses it) and "bfloat16"; copy_gb_s."""
    device = jax.local_devices()[0]
    memory = device.memory_stats() or {}
    side = 512 if small else 8192
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "memory_gib": round(memory.get("bytes_limit", 0) / 2**30, 1),
        "tflops": {name: _product(side, name) for name in ("float32", "bfloat16")},
        "copy_gb_s": _copy(2**20 if small else COPIED_FLOATS),
    }


def _product(side: int, dtype: str) -> float:
    a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in (0, 1))
    seconds = _seconds(jax.jit(jnp.matmul), a, b)
    return round(2 * side**3 / seconds / 1e12, 2)


def _copy(floats: int) -> float:
    """Bytes read plus bytes written."""
    return round(2 * 4 * floats / _seconds(jax.jit(lambda x: x + 1), jnp.zeros(floats)) / 1e9, 1)


def _seconds(function: Callable, *args: Any, calls: int = 20) -> float:
    jax.block_until_ready(function(*args))
    started = time.perf_counter()
    jax.block_until_ready([function(*args) for _ in range(calls)][-1])
    return (time.perf_counter() - started) / calls
