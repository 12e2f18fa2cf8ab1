"""Checks that differentiation shares over the backends."""

from __future__ import annotations

from typing import Any

import keras


def listed_variables(var_list: Any, native: tuple[type, ...] = ()) -> list[Any]:
    """The variables of ``var_list``, a list, a tuple or a callable returning one.

    Raises:
        ValueError: If something in it is not a variable.
    """
    variables = var_list() if callable(var_list) else var_list
    if not isinstance(variables, list | tuple):
        variables = [variables]
    for variable in variables:
        if not isinstance(variable, (keras.Variable, *native)):
            raise ValueError(
                "`var_list` must hold variables, or be a callable that returns a list of them. "
                f"Received an entry of type {type(variable).__name__}: {variable!r}"
            )
    return list(variables)


def require_all(gradients: list[Any], params: list[Any]) -> list[Any]:
    """Pass on ``gradients`` if none is missing.

    Raises:
        ValueError: If one is None; names its variable.
    """
    missing = [
        str(getattr(p, "path", None) or getattr(p, "name", p))
        for g, p in zip(gradients, params, strict=True)
        if g is None
    ]
    if missing:
        raise ValueError(
            "The loss does not depend on these variables through differentiable operations: "
            f"{', '.join(missing)}"
        )
    return gradients
