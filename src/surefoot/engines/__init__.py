"""One engine per backend: the only code that knows a backend.

An engine applies `surefoot.rule.update` to many variables at once, as fast as its
backend can, and answers the few questions whose answer depends on the backend.
`surefoot.engines.engine` says what an engine does, `surefoot.engines.contract` what it asks of an
optimizer.
"""

from __future__ import annotations

import importlib

import keras

from surefoot.engines.engine import Engine

_ENGINES = {"tensorflow": "TensorFlowEngine", "jax": "JaxEngine", "torch": "TorchEngine"}

_made: dict[str, Engine] = {}
"""Not a cached function, whose cache `torch.compile` warns that it ignores."""


def active() -> Engine:
    """The engine of the Keras backend in use.

    Raises:
        RuntimeError: If that backend has no engine.
    """
    backend = keras.backend.backend()
    if backend not in _made:
        if backend not in _ENGINES:
            raise RuntimeError(
                f"surefoot runs on the Keras backends {', '.join(_ENGINES)}. Received: "
                f"KERAS_BACKEND={backend!r}. Set KERAS_BACKEND to one of them before importing "
                "keras."
            )
        module = importlib.import_module(f"surefoot.engines.{backend}.engine")
        _made[backend] = getattr(module, _ENGINES[backend])()
    return _made[backend]
