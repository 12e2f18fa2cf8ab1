"""Functions for Keras variables and the variables of a backend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import keras


def dtype_of(variable: Any) -> str:
    """The dtype of a variable or a tensor, by Keras's name."""
    dtype: str = keras.backend.standardize_dtype(variable.dtype)
    return dtype


def accumulator_dtype(variable: Any) -> str:
    """The dtype of sums over many steps: float32 or float64."""
    dtype = dtype_of(variable)
    return dtype if dtype in ("float32", "float64") else "float32"


def is_low_precision(variable: Any) -> bool:
    """Whether small updates would be lost by rounding in the variable's dtype."""
    return accumulator_dtype(variable) != dtype_of(variable)


def value_of(variable: Any) -> Any:
    """The backend's value of a Keras variable; a backend's variable itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def variable_path(variable: Any) -> str:
    """The path of a Keras variable, or the name of a backend's variable."""
    path = getattr(variable, "path", None) or getattr(variable, "name", None) or "variable"
    return str(path).split(":", maxsplit=1)[0]


def identity(variable: Any) -> int | str:
    """A key that is the same for a Keras variable and the tf.Variable in it."""
    inner = getattr(variable, "value", None) if isinstance(variable, keras.Variable) else variable
    inner = getattr(variable, "_value", inner)
    handle = getattr(inner, "_unique_id", None)
    return handle if handle is not None else id(variable)


def distinct(variables: Iterable[Any]) -> list[Any]:
    """Variables without duplicates, in order; those of a shared layer may be listed twice."""
    return list({identity(variable): variable for variable in variables}.values())


def exclusion_test(
    var_list: Iterable[Any] | None, var_names: Iterable[str] | None
) -> Callable[[Any], bool]:
    """A test for the variables in ``var_list`` or with a path matching ``var_names``.

    Raises:
        TypeError: If ``var_names`` is not a list of strings.
    """
    excluded = {identity(variable) for variable in var_list or ()}
    if isinstance(var_names, str) or not all(isinstance(n, str) for n in var_names or ()):
        raise TypeError(f"`var_names` must be a list of strings. Received: var_names={var_names!r}")
    patterns = [re.compile(name) for name in var_names or ()]

    def is_excluded(variable: Any) -> bool:
        names = (variable_path(variable), str(getattr(variable, "name", "")))
        return identity(variable) in excluded or any(
            pattern.search(name) for pattern in patterns for name in names
        )

    return is_excluded


def is_detached(variable: Any) -> bool:
    """Whether Keras's JAX trainer holds the value of ``variable`` outside the variable."""
    return isinstance(variable, keras.Variable) and variable._value is None
