"""Writes to variables whose values Keras's JAX trainer holds during an epoch."""

from __future__ import annotations

from typing import Any

from surefoot import engines
from surefoot.variables.variable import is_detached


def reattach(variable: Any) -> None:
    """Let a ``fit`` that holds the value of ``variable`` hand it back."""
    if is_detached(variable):
        engines.active().reattach(variable)


def require_attached(variable: Any, what: str) -> None:
    """Refuse a write that the running ``fit`` would silently undo.

    Raises:
        RuntimeError: If Keras's JAX trainer has taken the value out of the
            variable, as it does between the batches of an epoch, and cannot be
            found among the callers.
    """
    reattach(variable)
    if is_detached(variable):
        raise RuntimeError(
            f"Cannot set {what} here: during an epoch, Keras's JAX trainer keeps the "
            "optimizer's state outside of its variables and would overwrite the new value. "
            "Set it from a callback, or call `model.jax_state_sync()` first."
        )
