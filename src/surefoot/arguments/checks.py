"""Checks of single arguments; each error names the value received and the values accepted."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Validator = Callable[[str, Any], float]

LIMIT = 2**31
"""Counts stay below it: they are compared with the iterations, int32 on some backends."""

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def as_number(name: str, value: Any) -> float:
    """Convert a Python, NumPy or backend scalar to a float.

    Raises:
        TypeError: If ``value`` is not a real scalar.
        ValueError: If it is NaN.
    """
    if isinstance(value, bool | str | bytes) or value is None:
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    if not isinstance(value, numbers.Real):
        try:
            array = np.asarray(keras.ops.convert_to_numpy(value))
        except Exception as error:
            raise TypeError(
                f"`{name}` must be a number. Received: {name}={value!r} "
                f"(of type {type(value).__name__})"
            ) from error
        if array.ndim or (array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16"):
            raise TypeError(f"`{name}` must be a scalar number. Received: {name}={value!r}")
        value = array.item()
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(
            f"`{name}` must be a number that a float can hold. Received: {name}={shown(value)}"
        ) from error
    if math.isnan(number):
        raise ValueError(f"`{name}` must not be NaN. Received: {name}={value!r}")
    return number


def shown(value: Any) -> str:
    """The text of a value for an error; a long integer is shortened, as Python may not print it."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{'-' * (value < 0)}2**{value.bit_length() - 1} or more"
    return repr(value)


def non_negative(name: str, value: Any) -> float:
    """Accept a finite number of at least 0."""
    number = as_number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"`{name}` must be a finite number >= 0. Received: {name}={value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """Accept a finite number above 0."""
    number = as_number(name, value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"`{name}` must be a finite number > 0. Received: {name}={value!r}")
    return number


def finite(name: str, value: Any) -> float:
    """Accept any finite number."""
    number = as_number(name, value)
    if math.isinf(number):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value!r}")
    return number


def decay_rate(name: str, value: Any) -> float:
    """Accept a moment's decay rate, in [0, 1)."""
    number = as_number(name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"`{name}` must be in the range [0, 1). Received: {name}={value!r}")
    return number


def proportion(name: str, value: Any) -> float:
    """Accept a number in [0, 1]."""
    number = as_number(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"`{name}` must be in the range [0, 1]. Received: {name}={value!r}")
    return number


def whole_number(name: str, value: Any) -> float:
    """Accept a whole number of at least 0, also written as a float (``1e4``)."""
    number = non_negative(name, value)
    if number != int(number):
        raise ValueError(f"`{name}` must be a whole number >= 0. Received: {name}={value!r}")
    return number


def positive_whole_number(name: str, value: Any) -> float:
    """Accept a whole number of at least 1."""
    number = whole_number(name, value)
    if number < 1:
        raise ValueError(f"`{name}` must be a whole number >= 1. Received: {name}={value!r}")
    return number


def epsilon_or_default(name: str, value: Any) -> float:
    """Accept a finite number of at least 0; None means ``keras.config.epsilon()``."""
    return non_negative(name, keras.config.epsilon() if value is None else value)


def check_name(name: Any) -> None:
    """Accept a valid name of a TensorFlow name scope.

    Raises:
        ValueError: If ``name`` is empty, malformed, or not a string.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "`name` must be a non-empty string of letters, digits and _ . / > - that starts "
            f"with a letter, a digit or a dot. Received: name={name!r}"
        )


def check_flag(name: str, value: Any) -> bool:
    """Accept True, False, 0 and 1.

    Raises:
        TypeError: If ``value`` is anything else.
    """
    if not isinstance(value, bool | int | np.bool_) or value not in (True, False):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={shown(value)}")
    return bool(value)


def flag_as_number(name: str, value: Any) -> float:
    """Accept True, False, 0 and 1, also as the float that a state holds."""
    if isinstance(value, float) and value in (0.0, 1.0):
        return value
    return float(check_flag(name, value))


def check_seed(value: Any) -> int:
    """Accept an unsigned 32-bit integer, which every backend takes.

    Raises:
        TypeError: If ``value`` is not a number.
        ValueError: If it is not such an integer.
    """
    seed = whole_number("seed", value)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be a whole number in [0, 2**32). Received: seed={value!r}")
    return int(seed)


def choice(name: str, value: Any, accepted: tuple[str, ...]) -> str:
    """Accept one of a few strings.

    Raises:
        ValueError: If ``value`` is not in ``accepted``.
    """
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, accepted))}. "
            f"Received: {name}={shown(value)}"
        )
    return str(value)
