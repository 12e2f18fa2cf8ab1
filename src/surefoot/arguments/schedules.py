"""Arguments that are a number or a schedule: checked, evaluated and serialized."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from surefoot.arguments.checks import Validator, non_negative


def schedule_from_config(name: str, value: Any) -> Any:
    """Deserialize a schedule; return anything else as it is.

    Keras 3's form and the originals' ``{"class_name", "config"}`` are accepted.

    Raises:
        ValueError: If ``value`` is a dictionary that is not a known schedule.
    """
    if not isinstance(value, Mapping):
        return value
    config = value.get("config") or {}
    if "class_name" not in value or not isinstance(config, Mapping):
        raise ValueError(
            f"`{name}` must be a number, a LearningRateSchedule or the dictionary of a "
            f"serialized one (with 'class_name' and 'config'). Received: {name}={value!r}"
        )
    module = str(value.get("module") or "keras")
    try:
        if module.startswith(("keras.", "keras", "tensorflow")) and not value.get(
            "registered_name"
        ):
            # The originals wrote a name of null, which Keras 3 does not accept. The dictionary
            # is copied because Keras's deserialization changes it.
            config = {k: v for k, v in config.items() if v is not None}
            schedule = keras.optimizers.schedules.deserialize(
                {"class_name": value["class_name"], "config": config}
            )
        else:
            schedule = keras.saving.deserialize_keras_object(dict(value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be a known schedule. Received: {name}={value!r}. ({error})"
        ) from error
    if not callable(schedule):
        raise ValueError(f"`{name}` must be a known schedule. Received: {name}={value!r}")
    return schedule


def number_or_schedule(name: str, value: Any, validator: Validator = non_negative) -> Any:
    """Accept a number, a schedule, a serialized schedule or a callable."""
    value = schedule_from_config(name, value)
    if isinstance(value, LearningRateSchedule):
        return value
    if callable(value) and not hasattr(value, "dtype"):
        return value
    return validator(name, value)


def evaluated(schedule: Callable[..., Any], iterations: Any) -> Any:
    """The value of a schedule, or of a callable that takes the step or no argument."""
    if isinstance(schedule, LearningRateSchedule):
        return schedule(iterations)
    parameters = inspect.signature(schedule).parameters.values()
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return schedule(iterations) if required else schedule()


def serialized(value: Any) -> Any:
    """The form of a number or schedule in a config."""
    if isinstance(value, LearningRateSchedule):
        return keras.optimizers.schedules.serialize(value)
    if callable(value):
        return keras.saving.serialize_keras_object(value)
    return value


def is_rounding_of(rounded: float, exact: Any) -> bool:
    """Whether ``rounded`` is the number ``exact`` rounded to float32."""
    return isinstance(exact, int | float) and bool(np.float32(exact) == np.float32(rounded))
