"""How a step is made on each backend: its modes, and the peers that only it has.

Each module offers `gradients(arrays)` and `contenders(mode)`; those that run on a GPU also
`device_floor(count)` and `device_costs(running, steps)`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("jit", "eager"),
    "torch": ("eager",),
    "originals": ("eager", "graph", "xla"),
}
"""By backend; `originals` is TensorFlow 2.14 with TensorFlow Addons, in its own environment."""

GPU_MODES = {**MODES, "torch": ("eager", "compile", "cuda graph")}
"""The same on a GPU."""

ENVIRONMENTS = {
    "cpu": {"KERAS_TORCH_DEVICE": "cpu", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"},
    "gpu": {"KERAS_TORCH_DEVICE": "cuda", "JAX_PLATFORMS": "cuda"},
}
"""What puts the variables of all backends on a device."""

FIT_MODE = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}
"""In which of them `fit` runs the optimizer left to itself."""


def load(backend: str) -> ModuleType:
    """The module of a backend; imports the backend."""
    return importlib.import_module(f"benchmarks.backends.{backend}")
