"""Checks of the constructor arguments that all optimizers here share."""

from __future__ import annotations

import numbers
import re
from typing import Any

import numpy as np

from surefoot.hyperparameters import number_or_schedule, positive, proportion, shown, whole_number

# What every Keras 3 optimizer takes; Keras itself checks their values.
BASE_ARGUMENTS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)

LIMIT = 2**31
"""Of counts that are compared with the iterations, 32-bit integers on some backends."""

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def resolve_learning_rate(owner: type, learning_rate: Any, kwargs: dict[str, Any]) -> Any:
    """Merge ``learning_rate`` with its old name ``lr``, taken out of ``kwargs``.

    In the originals ``lr`` won silently; here it wins only over the default,
    and a contradiction is an error.

    Raises:
        ValueError: If both are given and differ, or the value is out of range.
        TypeError: If it is not a number, schedule or callable.
    """
    if "lr" in kwargs:
        lr = kwargs.pop("lr")
        default = owner.__init__.__defaults__[0]  # type: ignore[misc]
        if not _same(learning_rate, default) and not _same(learning_rate, lr):
            raise ValueError(
                "`lr` is the old name of `learning_rate`; give one of them. "
                f"Received: learning_rate={learning_rate!r}, lr={lr!r}"
            )
        learning_rate = lr
    return number_or_schedule("learning_rate", learning_rate)


def _same(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except Exception:
        return False


def take_base_arguments(owner: type, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the Keras arguments among ``kwargs``; complain about any other.

    Raises:
        TypeError: If there is an unknown argument.
        ValueError: If clipping bounds or the accumulation are out of range.
    """
    unknown = sorted(set(kwargs) - set(BASE_ARGUMENTS))
    if unknown:
        raise TypeError(
            f"{owner.__name__} does not know the argument(s) {', '.join(unknown)}. "
            f"Besides its own it accepts: lr, {', '.join(BASE_ARGUMENTS)}. "
            f"Received: {', '.join(f'{name}={kwargs[name]!r}' for name in unknown)}"
        )
    for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
        if kwargs.get(name) is not None:
            kwargs[name] = positive(name, kwargs[name])
    for name, least in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 1)):
        steps = kwargs.get(name)
        if steps is not None:
            whole = isinstance(steps, numbers.Integral) and not isinstance(steps, bool)
            if not whole or not least <= steps < LIMIT:
                raise ValueError(
                    f"`{name}` must be an integer in [{least}, 2**31), or None. "
                    f"Received: {name}={shown(steps)}"
                )
            kwargs[name] = int(steps)
    if "use_ema" in kwargs:
        kwargs["use_ema"] = check_flag("use_ema", kwargs["use_ema"])
    if "ema_momentum" in kwargs:
        kwargs["ema_momentum"] = proportion("ema_momentum", kwargs["ema_momentum"])
    return kwargs


def check_name(name: Any) -> None:
    """Accept what TensorFlow accepted as the name of a scope.

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


def check_seed(value: Any) -> int:
    """Accept a whole number of 32 bits, which every backend takes.

    Raises:
        TypeError: If ``value`` is no number.
        ValueError: If it is another number.
    """
    seed = whole_number("seed", value)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be a whole number in [0, 2**32). Received: seed={value!r}")
    return int(seed)


def choice(name: str, value: Any, accepted: tuple[str, ...]) -> str:
    """Accept one of a few words.

    Raises:
        ValueError: If ``value`` is none of ``accepted``.
    """
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, accepted))}. "
            f"Received: {name}={shown(value)}"
        )
    return str(value)


def take_alias(kwargs: dict[str, Any], name: str, *, old_name: str, default: Any) -> Any:
    """Take an argument that has two names out of ``kwargs``.

    Raises:
        ValueError: If both names are given, with different values.
    """
    values = [kwargs.pop(key) for key in (name, old_name) if key in kwargs]
    if len(values) == 2 and not _same(*values):
        raise ValueError(
            f"`{old_name}` is another name of `{name}`; give one of them. "
            f"Received: {name}={values[0]!r}, {old_name}={values[1]!r}"
        )
    return values[0] if values else default
