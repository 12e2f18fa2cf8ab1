"""The error for a gradient that is not finite, the same from every backend."""

from __future__ import annotations

from collections.abc import Iterable


def nonfinite_message(names: Iterable[str], optimizer_name: str) -> str:
    """Say which variables' gradients are NaN or infinite."""
    return (
        f"The optimizer '{optimizer_name}' (nonfinite='raise') received a NaN or infinite "
        f"gradient for: {', '.join(names)}. Nothing was updated."
    )


def raise_nonfinite(finite: Iterable[bool], names: Iterable[str], optimizer_name: str) -> None:
    """Raise if a flag is False.

    Raises:
        FloatingPointError: It names the variables whose flag is False.
    """
    bad = [name for flag, name in zip(finite, names, strict=True) if not flag]
    if bad:
        raise FloatingPointError(nonfinite_message(bad, optimizer_name))
