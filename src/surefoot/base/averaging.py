"""The base of wrappers that average the weights which an optimizer passes through."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.base.shadow import ShadowOptimizer, exact_assignment
from surefoot.rule.update import interpolated
from surefoot.state.attachment import require_attached
from surefoot.state.named_state import as_array
from surefoot.variables.variable import variable_path

AVERAGE = "average"


class AveragingOptimizer(ShadowOptimizer):
    """A wrapper that trains as its inner optimizer does, and averages the weights."""

    SHADOW = AVERAGE

    def shadow_targets(self, variable: Any, master: Any, shadow: Any) -> list[Any]:
        """The average alone."""
        del variable, master
        return [shadow]

    @staticmethod
    def shadow_value(
        xp: Any,
        exact: Callable[..., Any],
        scalars: Sequence[Any],
        variable: Any,
        master: Any,
        shadow: Any,
    ) -> Any:
        """The average after a part of the way to the weight."""
        (weight,) = scalars
        return interpolated(xp, shadow, exact(variable, master), weight)

    @abstractmethod
    def has_average(self, average: np.ndarray) -> bool:
        """Whether a weight's slot holds an average of its values already."""

    def assign_average_vars(self, var_list: Iterable[Any]) -> None:
        """Give variables the values of their averages.

        Variables that have none stay as they are, with a warning: those that are
        not trained, such as the statistics of a `BatchNormalization`. A variable
        whose average has not begun stays as it is, too.

        Example:
            >>> import keras, surefoot
            >>> weight = keras.Variable(3.0)
            >>> optimizer = surefoot.MovingAverage(keras.optimizers.SGD(1.0), average_decay=0.5)
            >>> optimizer.apply([keras.ops.array(1.0)], [weight])  # 3 -> 2
            >>> optimizer.assign_average_vars([weight])
            >>> float(keras.ops.stop_gradient(weight.value))
            2.5

        Args:
            var_list: Variables of the model, such as ``model.trainable_variables``.

        Raises:
            RuntimeError: On JAX, inside of an epoch of ``fit`` that holds the
                state outside of the variables, where no callback asks.
        """
        require_attached(self._iterations, "the averages")
        without = []
        for variable in var_list:
            slot = self.slots.of(variable).get(AVERAGE)
            if slot is None:
                without.append(variable_path(variable))
                continue
            average = as_array(slot)
            if self.has_average(average):
                _assign(variable, average)
        if without:
            warnings.warn(
                f"The optimizer '{self.name}' has no average of: {', '.join(without)}. "
                "They stay as they are.",
                stacklevel=2,
            )

    def shadow_copy(self, model_weights: Iterable[Any]) -> None:
        """Create the averages of ``model_weights``, if that has not been done.

        Args:
            model_weights: The variables that the optimizer will train.

        Raises:
            KeyError: If there are averages, and not of all these variables.
        """
        variables = list(model_weights)
        if not self.built:
            self.build(variables)
        for variable in variables:
            self.get_slot(variable, AVERAGE)

    @property
    def has_shadow_copy(self) -> bool:
        """Whether the averages have been created."""
        return bool(self.built)

    def swap_weights(self) -> None:
        """Exchange the model's weights with their averages.

        A second call gives the weights back, bit for bit. Do not train in between:
        a step would average the averages.

        Example:
            >>> import keras, surefoot
            >>> weight = keras.Variable(3.0)
            >>> optimizer = surefoot.MovingAverage(keras.optimizers.SGD(1.0), average_decay=0.5)
            >>> optimizer.apply([keras.ops.array(1.0)], [weight])  # 3 -> 2
            >>> optimizer.swap_weights()
            >>> float(keras.ops.stop_gradient(weight.value))
            2.5
            >>> optimizer.swap_weights()
            >>> float(keras.ops.stop_gradient(weight.value))
            2.0

        Raises:
            ValueError: If the optimizer has not been built.
            RuntimeError: As `assign_average_vars`.
        """
        if not self.built:
            raise ValueError("There are no averages before the optimizer is built.")
        require_attached(self._iterations, "the averages")
        engine = engines.active()
        for variable in self._trainable_variables:
            slot = self.slots.of(variable).get(AVERAGE)
            average = None if slot is None else as_array(slot)
            if average is None or not self.has_average(average):
                continue
            master = self.inner_slot(variable, "master")
            kept = None if master is None else engine.read(master)
            _assign(slot, as_array(engine.exact_value(engine.read(variable), kept)))
            # To the master, too, so that the average is not rounded, either.
            given = exact_assignment([v for v in (variable, master) if v is not None], [])
            exact = keras.ops.convert_to_tensor(average)
            for place, target in enumerate(given.targets):
                engine.assign(target, engine.target_value(given, place, exact, ()))


def _assign(variable: Any, array: np.ndarray) -> None:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    variable.assign(keras.ops.cast(array, dtype))
