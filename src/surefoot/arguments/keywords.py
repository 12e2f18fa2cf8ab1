"""Checks of the constructor arguments that all optimizers of this package share."""

from __future__ import annotations

import numbers
from typing import Any

from surefoot.arguments.checks import LIMIT, check_flag, positive, proportion, shown
from surefoot.arguments.schedules import number_or_schedule

# The arguments of every Keras 3 optimizer.
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


def resolve_learning_rate(owner: type, learning_rate: Any, kwargs: dict[str, Any]) -> Any:
    """Merge ``learning_rate`` with its old name ``lr``, which is removed from ``kwargs``.

    In the originals ``lr`` silently replaced ``learning_rate``. Here it replaces
    only the default; two different values are an error.

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
    """Return the Keras arguments in ``kwargs``; any other argument is an error.

    Raises:
        TypeError: If there is an unknown argument.
        ValueError: If a value is out of range.
    """
    unknown = sorted(set(kwargs) - set(BASE_ARGUMENTS))
    if unknown:
        raise TypeError(
            f"{owner.__name__} has no argument(s) {', '.join(unknown)}. "
            f"In addition to its own arguments it accepts: lr, {', '.join(BASE_ARGUMENTS)}. "
            f"Received: {', '.join(f'{name}={kwargs[name]!r}' for name in unknown)}"
        )
    for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
        if kwargs.get(name) is not None:
            kwargs[name] = positive(name, kwargs[name])
    for name, least in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 1)):
        steps = kwargs.get(name)
        if steps is not None:
            is_integer = isinstance(steps, numbers.Integral) and not isinstance(steps, bool)
            if not is_integer or not least <= steps < LIMIT:
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


def take_alias(kwargs: dict[str, Any], name: str, *, old_name: str, default: Any) -> Any:
    """Remove an argument that has two names from ``kwargs`` and return its value.

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
