"""Keras's own step, where ours does one of its parts otherwise, or leaves it out."""

from __future__ import annotations

import itertools
from operator import is_
from typing import Any

import keras

from surefoot import engines
from surefoot.legacy_api.methods import reset_accumulators
from surefoot.state.measurement import Measurement
from surefoot.variables.variable import is_low_precision


class KerasStep(keras.optimizers.Optimizer):
    """A Keras optimizer that does for each variable in Python only what has to be done."""

    structure_facts: dict[str, Any]
    measurement: Measurement
    _nonfinite: str

    def are_all(self, variables: list[Any]) -> bool:
        """Whether these are all variables that the optimizer was built for, in their order."""
        known = self._trainable_variables
        return len(known) == len(variables) and all(map(is_, known, variables))

    def always_moves(self) -> bool:
        """Whether each call of an update changes the weights."""
        return self._nonfinite == "propagate" and not self.gradient_accumulation_steps

    def only_rule_assigns(self) -> bool:
        """Whether only engines change variables in an update, and no code of Keras or the user."""
        if not self.built:
            return False
        if "only_rule_assigns" not in self.structure_facts:
            self.structure_facts["only_rule_assigns"] = not (
                self.use_ema
                or self.gradient_accumulation_steps
                or any(
                    v.constraint is not None or getattr(v, "overwrite_with_gradient", False)
                    for v in self._trainable_variables
                )
            )
        return bool(self.structure_facts["only_rule_assigns"]) and not self.measurement.active

    def repeats_steps(self) -> bool:
        """Whether all steps do the same, and only code of this package runs in them.

        A subclass of the user may do in Python what an engine cannot see.
        """
        clips = self.clipnorm or self.global_clipnorm or self.clipvalue
        return (
            type(self).__module__.startswith("surefoot.")
            and not clips
            and self.loss_scale_factor is None
            and self.always_moves()
            and self.compiles_eagerly()
            and self.only_rule_assigns()
        )

    def _check_variables_are_known(self, variables: list[Any]) -> None:
        if not self.are_all(variables):
            super()._check_variables_are_known(variables)

    def _filter_empty_gradients(self, grads: Any, variables: Any) -> tuple[list[Any], list[Any]]:
        if any(map(is_, grads, itertools.repeat(None))):
            grads, variables = super()._filter_empty_gradients(grads, variables)
        return list(grads), list(variables)

    def _overwrite_variables_directly_with_gradients(
        self, grads: list[Any], variables: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        if not self.only_rule_assigns():
            grads, variables = super()._overwrite_variables_directly_with_gradients(
                grads, variables
            )
        return grads, variables

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        engine = engines.active()
        clips = self.clipnorm or self.global_clipnorm
        clips = clips or (self.clipvalue and not self.clips_in_update())
        # Norms of float16 gradients overflow; at 300 already its squares do.
        narrow = self.widens_gradients() and not clips and not self.measurement.active
        grads = engine.upcast(grads, only_special=narrow)
        self.measurement.record_gradient_norm(grads)
        return list(engine.clip(self, grads, super()._clip_gradients))

    def clips_in_update(self) -> bool:
        """Whether the engine's update clips gradients by value, in its pass over memory."""
        return False

    def widens_gradients(self) -> bool:
        """Whether the update computes in float32 with gradients of a lower precision."""
        return False

    def _backend_reset_gradient_accumulators(self) -> None:
        # Keras empties all of them, and so loses what was accumulated for a variable whose
        # gradient is missing in the very call that updates. Here that waits for its update.
        given = self.__dict__["_given"]
        reset_accumulators(self._accumulated_gradients[self._get_variable_index(v)] for v in given)

    def _overwrite_model_variables_with_average_value(self, variables: list[Any]) -> None:
        if not any(map(is_low_precision, variables)):
            super()._overwrite_model_variables_with_average_value(variables)
            return
        # Averages are in float32, which TensorFlow does not assign to other dtypes.
        for variable, average in zip(variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                variable.assign(keras.ops.cast(average.value, variable.dtype))
