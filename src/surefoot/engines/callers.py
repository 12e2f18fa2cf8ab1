"""Who called: for what a backend's own objects know and tell nobody.

Only among the callers can be found which trainer's ``fit`` is running, or which function
is being traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any


def calling_variables() -> Iterator[Mapping[str, Any]]:
    """The local variables of the functions that are being executed, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back


def calling_objects() -> Iterator[Any]:
    """The objects whose methods are being executed, the innermost first."""
    for names in calling_variables():
        caller = names.get("self")
        if caller is not None:
            yield caller
