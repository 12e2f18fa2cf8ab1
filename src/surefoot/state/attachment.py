"""Assignments to variables whose values Keras's JAX trainer holds during an epoch."""

from __future__ import annotations

from typing import Any

from surefoot import engines
from surefoot.variables.variable import is_detached


def reattach(variable: Any) -> None:
    """Put the value of ``variable`` back into it if a running ``fit`` holds it."""
    if is_detached(variable):
        engines.active().reattach(variable)


def require_attached(variable: Any, what: str) -> None:
    """Raise an error if the running ``fit`` would silently undo an assignment.

    Raises:
        RuntimeError: If Keras's JAX trainer has taken the value out of the
            variable, as it does during an epoch, and is not among the callers of
            this function.
    """
    reattach(variable)
    if is_detached(variable):
        raise RuntimeError(
            f"Cannot set {what} here: during an epoch, Keras's JAX trainer keeps the "
            "optimizer's state outside its variables and would overwrite the new value. "
            "Set it from a callback, or call `model.jax_state_sync()` first."
        )
