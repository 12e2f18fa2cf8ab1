"""One engine per backend: the only code that knows a backend.

An engine applies `surefoot.rule` to many variables at once, as fast as its
backend can, and answers the few questions whose answer depends on the backend.
`surefoot.engines.contract` lists what each module here provides.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, cast

import keras

if TYPE_CHECKING:
    from surefoot.engines.contract import Engine

_SUPPORTED = ("tensorflow", "jax", "torch")


@functools.cache
def active() -> Engine:
    """The engine of the Keras backend in use.

    Raises:
        RuntimeError: If that backend has no engine.
    """
    backend = keras.backend.backend()
    if backend not in _SUPPORTED:
        raise RuntimeError(
            f"surefoot runs on the Keras backends {', '.join(_SUPPORTED)}. Received: "
            f"KERAS_BACKEND={backend!r}. Set KERAS_BACKEND to one of them before importing keras."
        )
    return cast("Engine", importlib.import_module(f"surefoot.engines.{backend}"))
