"""How a step is made on each backend: its modes, and the peers that only it has.

Each module offers `MODES`, `gradients(arrays)` and `contenders(mode)`.
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

FIT_MODE = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}
"""In which of them `fit` runs the optimizer on a CPU, left to itself."""


def load(backend: str) -> ModuleType:
    """The module of a backend; imports the backend."""
    return importlib.import_module(f"benchmarks.backends.{backend}")
