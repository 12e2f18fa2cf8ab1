"""The base of wrappers that keep a second value of each weight: slow weights, or averages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from surefoot import engines
from surefoot.base.inner_step import apply_unconstrained, inner_may_stay
from surefoot.base.wrapper import WrappingOptimizer
from surefoot.rule.rounding import (
    AT_RANDOM,
    LOWER,
    NEAREST,
    SLOW,
    UPPER,
    step_halves,
    variable_key,
)
from surefoot.rule.update import Array
from surefoot.state.attachment import require_attached
from surefoot.state.counter import updates_done
from surefoot.state.measurement import measured
from surefoot.state.named_state import State
from surefoot.variables.tracked import Assignment, Assignments
from surefoot.variables.variable import (
    accumulator_dtype,
    distinct,
    dtype_of,
    identity,
    is_low_precision,
)


class ShadowOptimizer(WrappingOptimizer):
    """A wrapper whose update is the inner optimizer's, and then one assignment.

    The assignment is made where a condition holds, for the variables that have a gradient in this
    update, as in the originals.
    """

    SHADOW: ClassVar[str]
    """The slot that holds the second value of a weight."""

    SHADOW_STARTS: ClassVar[float | None] = None
    """Its first value; None for that of the weight at the first update."""

    shadow_value: ClassVar[Callable[..., Array]]
    """What is assigned, see `Engine.assign_where`; its sources are weight, master and shadow."""

    @abstractmethod
    def shadow_targets(self, variable: Any, master: Any, shadow: Any) -> list[Any]:
        """What is assigned to, for one weight."""

    @abstractmethod
    def shadow_numbers(
        self, iterations: Any, hyperparameters: dict[str, Array], xp: Any
    ) -> Sequence[Array]:
        """Whether this update ends with the assignment, and then its scalars.

        Args:
            iterations: The number of updates done, a variable or tensor.
            hyperparameters: The declared hyperparameters as stored.
            xp: The array namespace to compute in.
        """

    @property
    def period(self) -> int:
        """The number of updates after which these numbers repeat themselves."""
        return 1

    def build(self, variables: Any) -> None:
        """Create the second values, and build the inner optimizer."""
        if self.built:
            return
        variables = distinct(variables)
        super().build(variables)
        self.slots.rename(self.SHADOW, "ema")  # Keras calls that of `use_ema` "average", too
        self.build_inner(variables)
        # Past Keras's tracking, which would take the model's variables for ours.
        self.__dict__["_shadow_starts"] = Assignments()
        self.__dict__["_shadow_updates"] = {}
        seed = getattr(self.inner_optimizer, "seed", 0)
        for index, variable in enumerate(variables):
            if getattr(variable, "overwrite_with_gradient", False):
                self.slots.skip(variable)
                continue
            start = "zeros" if self.SHADOW_STARTS is None else self._first_values
            dtype = self._shadow_dtype(variable)
            shadow = self.add_variable_from_reference(variable, self.SHADOW, start, dtype=dtype)
            if self.SHADOW_STARTS is None:
                engines.active().initialize_as_copy(shadow, variable)
            master = self.inner_slot(variable, "master")
            key = variable_key(seed, index, lane=SLOW)
            sources = [variable, master, shadow]
            targets = self.shadow_targets(*sources)
            at_random = [shadow] if self.rounds_shadow() else []
            self._shadow_starts.append(
                exact_assignment([shadow], sources[:2], key=key, at_random=at_random)
            )
            self._shadow_updates[identity(variable)] = exact_assignment(
                targets, sources, key=key, at_random=at_random
            )
        self.__dict__["_all_shadow_updates"] = Assignments(self._shadow_updates.values())
        self.restore_pending_slots()

    def _first_values(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        # Not by Keras's `Constant`, which multiplies: in one run of the tests on TensorFlow, for a
        # reason that was not found, negative zeros had become positive ones.
        return keras.ops.convert_to_tensor(np.full(shape, self.SHADOW_STARTS), dtype=dtype)

    def rounds_shadow(self) -> bool:
        """Whether the second values are stored in bfloat16, rounded at random."""
        return False

    def slot_dtypes(self, variable: Any) -> dict[str, str]:
        """The slots that this optimizer has for a variable, and their dtypes."""
        found = super().slot_dtypes(variable)
        if self.SHADOW in found:  # see `build`
            found["ema"] = found.pop(self.SHADOW)
        return found | {self.SHADOW: self._shadow_dtype(variable)}

    def _shadow_dtype(self, variable: Any) -> str:
        return "bfloat16" if self.rounds_shadow() else accumulator_dtype(variable)

    def reset_shadow(self) -> None:
        """Let the second values start anew from the model's present weights.

        Raises:
            RuntimeError: On JAX, inside of an epoch of ``fit`` that holds the
                state outside of the variables, where no callback asks.
        """
        starts = self.__dict__.get("_shadow_starts", ())
        for variable in (v for start in starts for v in (*start.targets, *start.sources)):
            if variable is not None:
                require_attached(variable, f"the slots '{self.SHADOW}'")
        for start in starts:
            engines.active().initialize_as_copy(start.targets[0], start.sources[0])

    def rule_state(self) -> list[Any]:
        """The second values, which only the rule writes, and the inner optimizer's state."""
        return [*(start.targets[0] for start in self._shadow_starts), *super().rule_state()]

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        del learning_rate
        engine, inner = engines.active(), self.inner_optimizer
        numbers = engine.numbers(self, self.SHADOW, self._numbers)
        first = 3 if self.rounds_shadow() else 1
        (starts, *halves), (due, *scalars) = numbers[:first], numbers[first:]
        if self.SHADOW_STARTS is None:
            engine.assign_where(starts, self._shadow_starts, _value_of_weight, halves)
        done = updates_done(inner) if inner_may_stay(inner) else None
        apply_unconstrained(inner, grads, trainable_variables)
        if done is not None:  # it may only have accumulated, or skipped
            moved = updates_done(inner) > done
            due = keras.ops.logical_and(due, moved)
            # Keras will count this step; take that back if it was none.
            dtype = keras.backend.standardize_dtype(self._iterations.dtype)
            self._iterations.assign_add(keras.ops.cast(moved, dtype) - 1)
        chosen = self._shadow_updates_of(trainable_variables)
        engine.assign_where(due, chosen, type(self).shadow_value, scalars)

    def _numbers(self) -> list[Array]:
        """Whether a training starts, and the `shadow_numbers`.

        Behind each of the two are the halves of the step's number, if they are needed to round:
        what a loop reads is then together in a device's memory.
        """
        engine, vector = engines.active(), self.hyperparameters.variable
        own = self.hyperparameters.named(engine.scalar(vector))
        xp = engine.scalar_namespace(vector)
        count = engine.whole_number(self.iterations)
        numbers = self.shadow_numbers(self.inner_optimizer.iterations, own, xp)
        halves = step_halves(count) if self.rounds_shadow() else ()
        return [count == 0, *halves, *numbers, *halves]

    def _shadow_updates_of(self, variables: list[Any]) -> list[Assignment]:
        if self.are_all(variables):
            return self._all_shadow_updates
        given = dict.fromkeys(map(identity, variables))
        return [self._shadow_updates[key] for key in given if key in self._shadow_updates]

    def restore(self, state: State) -> None:
        """Take a ``state`` without mismatches; one without second values lets them start anew."""
        super().restore(state)
        is_missing = not any(name.startswith(f"{self.SHADOW}|") for name in state)
        if self.built and self.SHADOW_STARTS is None and is_missing:
            self.reset_shadow()


def exact_assignment(
    targets: list[Any], sources: list[Any], *, key: int = 0, at_random: Sequence[Any] = ()
) -> Assignment:
    """An assignment to variables of a model, their masters and shadows.

    Args:
        targets: The variables. A bfloat16 one gets the upper half of a value if its master, which
            is then among them, gets the lower one.
        sources: What the value is computed from.
        key: Of random bits.
        at_random: Which targets are rounded by these.
    """
    targets = sorted(targets, key=is_low_precision)
    splits = any(dtype_of(v) == "int16" for v in targets)

    def form(target: Any) -> str:
        if any(target is v for v in at_random):
            return AT_RANDOM
        if not splits or dtype_of(target) not in ("bfloat16", "int16"):
            return NEAREST
        return UPPER if dtype_of(target) == "bfloat16" else LOWER

    return Assignment(targets, sources, tuple(map(form, targets)), key)


def _value_of_weight(
    xp: Any, exact: Callable[..., Any], scalars: Sequence[Any], variable: Any, master: Any
) -> Any:
    del xp, scalars
    return exact(variable, master)
