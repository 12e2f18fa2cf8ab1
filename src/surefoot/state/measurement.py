"""Measurements in a step: norms of the gradient, the weights and the update.

They are computed inside the step, where gradient and update are known, and
stored in one small variable of the optimizer. So a compiled step needs no second
pass over the model, and values are copied to the host only when they are read.
The variable always exists, but the step writes it only while measuring is
on, so that compiled, saved and sharded state has the same structure either way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.rule.update import Array

FIELDS = (
    "calls",  # of `apply`, whether or not they changed the weights
    "updates",
    "effective_learning_rate",
    "rectification",
    "parameter_norm",
    "gradient_norm_sum",
    "gradient_norm_max",
    "update_ratio_sum",
)
_LARGEST = ("gradient_norm_max",)
_LAST = ("effective_learning_rate", "rectification", "parameter_norm")
_CALLS = FIELDS.index("calls")

UpdateStep = Callable[[Any, list[Any], list[Any], Any], None]


class Measurement:
    """The measurements of an optimizer's steps since the last reset.

    Args:
        variable: A float32 vector with one element for each of `FIELDS`.
    """

    def __init__(self, variable: Any):
        self.variable = variable
        self.active = False
        self._gradient_norm: Any = None

    def count_call(self) -> None:
        """Count a call of `apply`; part of the step."""
        if self.active:
            numbers = [*keras.ops.unstack(self.variable.value)]
            numbers[_CALLS] = numbers[_CALLS] + 1.0
            self.variable.assign(keras.ops.stack(numbers))

    def record_gradient_norm(self, gradients: list[Any]) -> None:
        """Compute the norm of gradients before clipping; part of the step."""
        if self.active:
            given = [g for g in gradients if g is not None]
            self._gradient_norm = engines.active().global_norm(given)

    def record(
        self, gradients: list[Any], rates: dict[str, Array], parameter: Array, update: Array
    ) -> None:
        """Add an update to the sums; part of the step."""
        gradient = self._gradient_norm
        self._gradient_norm = None
        if gradient is None:  # the step was called directly, without clipping
            gradient = engines.active().global_norm(gradients)
        now = dict(zip(FIELDS, keras.ops.unstack(self.variable.value), strict=True))
        now |= {name: keras.ops.cast(rate, "float32") for name, rate in rates.items()}
        now |= {
            "updates": now["updates"] + 1.0,
            "parameter_norm": parameter,
            "gradient_norm_sum": now["gradient_norm_sum"] + gradient,
            "gradient_norm_max": keras.ops.maximum(now["gradient_norm_max"], gradient),
            "update_ratio_sum": now["update_ratio_sum"] + update / parameter,
        }
        self.variable.assign(keras.ops.stack([now[name] for name in FIELDS]))

    def read(self) -> dict[str, float]:
        """The numbers by name; waits for running steps."""
        values = keras.ops.convert_to_numpy(self.variable.value)
        return dict(zip(FIELDS, map(float, values), strict=True))

    def reset(self) -> None:
        """Set all numbers to zero."""
        self.variable.assign(np.zeros(len(FIELDS), "float32"))


def combined(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Combine the numbers of two successive `Measurement.read`; unknown names are summed.

    Example:
        >>> from collections import Counter
        >>> one = Counter(updates=2.0, gradient_norm_max=3.0, parameter_norm=5.0)
        >>> two = Counter(updates=1.0, gradient_norm_max=2.0, parameter_norm=6.0)
        >>> {name: combined(one, two)[name] for name in one}
        {'updates': 3.0, 'gradient_norm_max': 3.0, 'parameter_norm': 6.0}
    """
    sums = {name: first[name] + second[name] for name in second}
    largest = {name: max(first[name], second[name]) for name in _LARGEST}
    last = second if second["updates"] else first
    return sums | largest | {name: last[name] for name in _LAST}


def measured(update_step: UpdateStep) -> UpdateStep:
    """Make a `_backend_update_step` measure itself while measuring is on.

    The measurement is here and not around `apply` because this method runs once per update,
    after gradients are accumulated and steps with non-finite gradients are skipped.
    """

    @functools.wraps(update_step)
    def step(
        self: Any, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        measurement = self.measurement
        if not measurement.active:
            update_step(self, grads, trainable_variables, learning_rate)
            return
        engine = engines.active()
        before = engine.snapshot(trainable_variables)
        parameter = engine.global_norm(before)
        rates = self.step_rates(learning_rate)
        update_step(self, grads, trainable_variables, learning_rate)
        update = engine.distance(before, trainable_variables)
        measurement.record(grads, rates, parameter, update)

    return step
