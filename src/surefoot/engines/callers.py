"""The call stack.

Only there can be found which trainer's ``fit`` is running, or which function is being traced: no
function of Keras or of a backend returns it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FrameType
from typing import Any


def calling_frames() -> Iterator[FrameType]:
    """The frames that are being executed, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def calling_objects() -> Iterator[Any]:
    """The objects whose methods are being executed, the innermost first."""
    for frame in calling_frames():
        caller = frame.f_locals.get("self")
        if caller is not None:
            yield caller


def is_trainer(caller: Any) -> bool:
    """Whether this is a Keras model, which compiles a training step for `fit`."""
    return callable(getattr(type(caller), "make_train_function", None))
