"""Live hyperparameters: validated where they are set, seen by the next step.

The originals kept hyperparameters in variables, so that a callback could
change ``beta_1`` of a running, compiled training. Keras 3 bakes the Python
float into the compiled step, where a later write is silently lost. Here all
scalar hyperparameters of an optimizer share one small vector variable, which
compiled steps read, and a host copy in float64, which Python reads.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from surefoot import engines
from surefoot.live import live

if TYPE_CHECKING:
    from surefoot.moments import MomentOptimizer

Validator = Callable[[str, Any], float]


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
    """A value as an error shows it: of a long number not the digits, which Python may refuse."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{'-' * (value < 0)}2**{value.bit_length() - 1} and more"
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
    """Accept a share, in [0, 1]."""
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


def schedule_from_config(name: str, value: Any) -> Any:
    """Turn a serialized schedule into the schedule; leave anything else alone.

    Reads Keras 3's form and the originals' ``{"class_name", "config"}``.

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
            # The originals wrote a name of null, which Keras 3 does not take. A copy,
            # because Keras's deserialization changes the dictionary it reads.
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
    """Accept what learning rates may be: a number, a schedule, its dict, a callable."""
    value = schedule_from_config(name, value)
    if isinstance(value, LearningRateSchedule):
        return value
    if callable(value) and not hasattr(value, "dtype"):
        return value
    return validator(name, value)


def evaluated(schedule: Callable[..., Any], iterations: Any) -> Any:
    """The value of a schedule, or of a callable with or without the step as argument."""
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
    """The form in which a number or schedule stands in a config."""
    if isinstance(value, LearningRateSchedule):
        return keras.optimizers.schedules.serialize(value)
    if callable(value):
        return keras.saving.serialize_keras_object(value)
    return value


def is_rounding_of(rounded: float, exact: Any) -> bool:
    """Whether ``rounded`` is what float32 makes of the number ``exact``."""
    return isinstance(exact, int | float) and bool(np.float32(exact) == np.float32(rounded))


def is_detached(variable: Any) -> bool:
    """Whether JAX's ``fit`` holds the value of ``variable`` outside of it."""
    return isinstance(variable, keras.Variable) and variable._value is None


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


class Hyperparameter:
    """A hyperparameter of an optimizer class: declared once, live ever after.

    Args:
        validate: Raises on a value that is not accepted, else returns it as a
            float.
        complement: Keep ``1 - value`` in the variable, as is right for decay
            rates near one, which float32 would round.
        whole: Read as an int.
        schedulable: Accept schedules and callables of the step, too.
    """

    def __init__(
        self,
        validate: Validator,
        *,
        complement: bool = False,
        whole: bool = False,
        schedulable: bool = False,
    ):
        self.validate = validate
        self.complement = complement
        self.whole = whole
        self.schedulable = schedulable
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def stored_name(self) -> str:
        """The name of what the variable holds."""
        return f"one_minus_{self.name}" if self.complement else self.name

    def accept(self, value: Any) -> Any:
        """Validate ``value`` and return it as it will be kept."""
        if self.schedulable:
            return number_or_schedule(self.name, value, self.validate)
        return self.validate(self.name, value)

    def encode(self, value: float) -> float:
        """The number in the variable for ``value``."""
        return 1.0 - value if self.complement else value

    decode = encode

    def __get__(self, optimizer: MomentOptimizer | None, owner: type | None = None) -> Any:
        if optimizer is None:
            return self
        value = optimizer.hyperparameters.get(self)
        return value if callable(value) else live(value, optimizer, self.name)

    def __set__(self, optimizer: MomentOptimizer, value: Any) -> None:
        optimizer.hyperparameters.set(self, self.accept(value))


class HyperparameterSet:
    """The hyperparameters of one optimizer: host copy, variable and schedules.

    Args:
        declared: The hyperparameters, in the order of the vector.
        values: Accepted values by name.
        changing_structure: The scope in which a schedule is put in, or taken out.
    """

    def __init__(
        self,
        declared: list[Hyperparameter],
        values: Mapping[str, Any],
        changing_structure: Callable[[str], AbstractContextManager[None]],
    ):
        self.declared = declared
        self.values = dict(values)
        self.variable: Any = None
        self._changing_structure = changing_structure

    def attach(self, variable: Any) -> None:
        """Keep ``variable`` equal to the values from here on."""
        self.variable = variable
        for hyperparameter in self.declared:
            self._require_held(hyperparameter, self.values[hyperparameter.name])
        self._write()

    def get(self, hyperparameter: Hyperparameter) -> Any:
        """The value as the user gave it, or as a checkpoint brought it."""
        self._refresh()
        value = self.values[hyperparameter.name]
        return int(value) if hyperparameter.whole else value

    def set(self, hyperparameter: Hyperparameter, value: Any) -> None:
        """Set an accepted value; the next step sees it, compiled or not."""
        name = hyperparameter.name
        if self.variable is not None:
            require_attached(self.variable, "a hyperparameter")
            self._require_held(hyperparameter, value)
        previous = self.values[name]
        # What is compiled holds the schedule itself, not its number.
        structural = previous is not value and (callable(previous) or callable(value))
        with (
            self._changing_structure(f"{name}={value!r}")
            if structural
            else contextlib.nullcontext()
        ):
            self.values[name] = value
            self._write()

    def stored(self) -> dict[str, float]:
        """What the variable holds, by name, in float64."""
        self._refresh()
        return {
            hyperparameter.stored_name: hyperparameter.encode(value)
            for hyperparameter in self.declared
            if not callable(value := self.values[hyperparameter.name])
        }

    def on_host(self) -> dict[str, np.float64]:
        """What the variable holds, as NumPy scalars; schedules, which are left out, aside."""
        return {name: np.float64(value) for name, value in self.stored().items()}

    def problems(self, stored: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
        """Which entries of ``stored`` are no accepted values, and why."""
        for hyperparameter in self.declared:
            name = hyperparameter.stored_name
            if name in stored and not stored[name].shape:
                try:
                    number = as_number(name, stored[name])
                    number = hyperparameter.decode(number)
                    self._require_held(
                        hyperparameter, hyperparameter.validate(hyperparameter.name, number)
                    )
                except (TypeError, ValueError) as error:
                    yield name, str(error)

    def restore(self, stored: Mapping[str, float]) -> None:
        """Take the values of ``stored``; those not in it stay."""
        for hyperparameter in self.declared:
            if hyperparameter.stored_name in stored:
                number = float(stored[hyperparameter.stored_name])
                self.values[hyperparameter.name] = hyperparameter.decode(number)
        self._write()

    def named(self, vector: Any) -> dict[str, Any]:
        """Name the entries of ``vector``, the variable's value in a step."""
        return {
            hyperparameter.stored_name: vector[index]
            for index, hyperparameter in enumerate(self.declared)
        }

    def in_step(self, iterations: Any) -> dict[str, Any]:
        """What the update after ``iterations`` reads: entries of the variable, and schedules'."""
        engine = engines.active()
        values = self.named(engine.scalar(self.variable))
        for hyperparameter in self.declared:
            schedule = self.schedule_of(hyperparameter.name)
            if schedule is not None:
                values[hyperparameter.stored_name] = engine.scalar(evaluated(schedule, iterations))
        return values

    def schedule_of(self, name: str) -> Any:
        """The schedule or callable behind a hyperparameter, or None."""
        value = self.values[name]
        return value if callable(value) else None

    def _encoded(self) -> np.ndarray:
        return np.array(
            [
                0.0 if callable(self.values[h.name]) else h.encode(self.values[h.name])
                for h in self.declared
            ],
            dtype="float64",
        )

    def _require_held(self, hyperparameter: Hyperparameter, value: Any) -> None:
        """Refuse a number that would be infinite in the variable."""
        dtype = self.variable.dtype
        if not callable(value) and abs(value) > float(np.finfo(dtype).max):
            raise ValueError(
                f"`{hyperparameter.name}` must be a number that {dtype} has. "
                f"Received: {hyperparameter.name}={value!r}"
            )

    def _write(self) -> None:
        if self.variable is not None:
            require_attached(self.variable, "a hyperparameter")
            self.variable.assign(self._encoded().astype(self.variable.dtype))

    def _refresh(self) -> None:
        """Adopt what was assigned to the variable behind our back (a checkpoint).

        The float64 host value stays wherever the variable still equals its
        rounding.
        """
        if self.variable is None or is_detached(self.variable):
            return
        try:
            current = np.asarray(keras.ops.convert_to_numpy(self.variable.value))
        except Exception:  # symbolic: inside a trace the host copy is what is known
            return
        expected = self._encoded()
        for index, hyperparameter in enumerate(self.declared):
            changed = current[index] != expected[index].astype(current.dtype)
            if changed and not callable(self.values[hyperparameter.name]):
                self.values[hyperparameter.name] = hyperparameter.decode(float(current[index]))
