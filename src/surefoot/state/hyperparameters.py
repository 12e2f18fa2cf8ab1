"""Live hyperparameters: validated when they are set, and used by the next step.

The originals kept hyperparameters in variables, so that a callback could
change ``beta_1`` during a compiled training. Keras 3 compiles the Python float
into the step as a constant, so a later change is silently ignored. Here all
scalar hyperparameters of an optimizer share one vector variable, which compiled
steps read, and have float64 copies on the host, which Python reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.arguments.checks import Validator, as_number
from surefoot.arguments.schedules import evaluated, number_or_schedule
from surefoot.state.attachment import require_attached
from surefoot.state.live import live
from surefoot.variables.variable import is_detached


class Hyperparameter:
    """A hyperparameter of an optimizer class, declared as a class attribute.

    Args:
        validate: Returns an accepted value as a float; raises an error for
            others.
        complement: Store ``1 - value`` in the variable. It is more exact for
            decay rates near one, which float32 would round.
        whole: Whether the value is read as an int.
        schedulable: Whether schedules and callables of the step are accepted.
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
        """The name of the number in the variable."""
        return f"one_minus_{self.name}" if self.complement else self.name

    def accept(self, value: Any) -> Any:
        """Validate ``value`` and return it in the form in which it is kept."""
        if self.schedulable:
            return number_or_schedule(self.name, value, self.validate)
        return self.validate(self.name, value)

    def encode(self, value: float) -> float:
        """The number in the variable for ``value``."""
        return 1.0 - value if self.complement else value

    decode = encode

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        if optimizer is None:
            return self
        value = optimizer.hyperparameters.get(self)
        return value if callable(value) else live(value, optimizer, self.name)

    def __set__(self, optimizer: Any, value: Any) -> None:
        optimizer.hyperparameters.set(self, self.accept(value))


class MomentRate(Hyperparameter):
    """The decay rate of a first moment that an optimizer does not keep if it is made with 0."""

    def __set__(self, optimizer: Any, value: Any) -> None:
        accepted = self.accept(value)
        if accepted and not optimizer.keeps_first_moment:
            raise ValueError(
                f"The optimizer '{optimizer.name}' was made with `{self.name}` 0 and keeps no "
                f"first moment; make a new one. Received: {self.name}={value!r}"
            )
        super().__set__(optimizer, value)


class HyperparameterSet:
    """The hyperparameters of one optimizer: host copy, variable and schedules.

    Args:
        declared: The hyperparameters, in the order of the vector.
        values: Accepted values by name.
        changing_structure: Returns the context in which a schedule is set or removed.
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
        """Keep the values in ``variable``, too."""
        self.variable = variable
        for hyperparameter in self.declared:
            self._require_representable(hyperparameter, self.values[hyperparameter.name])
        self._write()

    def get(self, hyperparameter: Hyperparameter) -> Any:
        """The value that the user set or that a checkpoint restored."""
        self._refresh()
        value = self.values[hyperparameter.name]
        return int(value) if hyperparameter.whole else value

    def set(self, hyperparameter: Hyperparameter, value: Any) -> None:
        """Set an accepted value; the next step uses it, compiled or not."""
        name = hyperparameter.name
        if self.variable is not None:
            require_attached(self.variable, "a hyperparameter")
            self._require_representable(hyperparameter, value)
        previous = self.values[name]
        # The schedule itself is part of compiled steps, a number is not.
        structural = previous is not value and (callable(previous) or callable(value))
        with (
            self._changing_structure(f"{name}={value!r}")
            if structural
            else contextlib.nullcontext()
        ):
            self.values[name] = value
            self._write()

    def stored(self) -> dict[str, float]:
        """The numbers in the variable by name, in float64."""
        self._refresh()
        return {
            hyperparameter.stored_name: hyperparameter.encode(value)
            for hyperparameter in self.declared
            if not callable(value := self.values[hyperparameter.name])
        }

    def on_host(self) -> dict[str, np.float64]:
        """The numbers in the variable as NumPy scalars, without schedules."""
        return {name: np.float64(value) for name, value in self.stored().items()}

    def problems(self, stored: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
        """The entries of ``stored`` that are not accepted, and why."""
        for hyperparameter in self.declared:
            name = hyperparameter.stored_name
            if name in stored and not stored[name].shape:
                try:
                    number = as_number(name, stored[name])
                    number = hyperparameter.decode(number)
                    self._require_representable(
                        hyperparameter, hyperparameter.validate(hyperparameter.name, number)
                    )
                except (TypeError, ValueError) as error:
                    yield name, str(error)

    def restore(self, stored: Mapping[str, float]) -> None:
        """Set the values in ``stored``; others do not change."""
        for hyperparameter in self.declared:
            if hyperparameter.stored_name in stored:
                number = float(stored[hyperparameter.stored_name])
                self.values[hyperparameter.name] = hyperparameter.decode(number)
        self._write()

    def named(self, vector: Any) -> dict[str, Any]:
        """The entries of ``vector``, the variable's value in a step, by name."""
        return {
            hyperparameter.stored_name: vector[index]
            for index, hyperparameter in enumerate(self.declared)
        }

    def in_step(self, iterations: Any) -> dict[str, Any]:
        """The hyperparameters of the update after ``iterations``, schedules evaluated."""
        engine = engines.active()
        values = self.named(engine.scalar(self.variable))
        for hyperparameter in self.declared:
            schedule = self.schedule_of(hyperparameter.name)
            if schedule is not None:
                with engine.numbers_at(self.variable):
                    value = evaluated(schedule, iterations)
                values[hyperparameter.stored_name] = engine.scalar(value)
        return values

    def schedule_of(self, name: str) -> Any:
        """The schedule or callable of a hyperparameter, or None."""
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

    def _require_representable(self, hyperparameter: Hyperparameter, value: Any) -> None:
        """Raise an error for a number that would be infinite in the variable."""
        dtype = self.variable.dtype
        if not callable(value) and abs(value) > float(np.finfo(dtype).max):
            raise ValueError(
                f"`{hyperparameter.name}` must be a number that {dtype} can represent. "
                f"Received: {hyperparameter.name}={value!r}"
            )

    def _write(self) -> None:
        if self.variable is not None:
            require_attached(self.variable, "a hyperparameter")
            self.variable.assign(self._encoded().astype(self.variable.dtype))

    def _refresh(self) -> None:
        """Read values that others assigned to the variable, such as a checkpoint.

        The float64 value on the host does not change if the variable is equal
        to it after rounding.
        """
        if self.variable is None or is_detached(self.variable):
            return
        try:
            current = np.asarray(keras.ops.convert_to_numpy(self.variable.value))
        except Exception:  # inside a trace it is symbolic, and only the host copy has a value
            return
        expected = self._encoded()
        for index, hyperparameter in enumerate(self.declared):
            changed = current[index] != expected[index].astype(current.dtype)
            if changed and not callable(self.values[hyperparameter.name]):
                self.values[hyperparameter.name] = hyperparameter.decode(float(current[index]))
