"""One engine per backend: the only code that knows a backend.

An engine applies `surefoot.rule.update` to many variables at once, as fast as its
backend can, and answers the few questions whose answer depends on the backend.
`surefoot.engines.contract` lists what each module here provides.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

import keras

if TYPE_CHECKING:
    from surefoot.engines.contract import Engine

_SUPPORTED = ("tensorflow", "jax", "torch")


_modules: dict[str, Engine] = {}
"""Not a cached function, whose cache `torch.compile` warns that it ignores."""


def active() -> Engine:
    """The engine of the Keras backend in use.

    Raises:
        RuntimeError: If that backend has no engine.
    """
    backend = keras.backend.backend()
    if backend not in _modules:
        if backend not in _SUPPORTED:
            raise RuntimeError(
                f"surefoot runs on the Keras backends {', '.join(_SUPPORTED)}. Received: "
                f"KERAS_BACKEND={backend!r}. Set KERAS_BACKEND to one of them before importing "
                "keras."
            )
        module = importlib.import_module(f"surefoot.engines.{backend}.engine")
        _modules[backend] = cast("Engine", module)
    return _modules[backend]
