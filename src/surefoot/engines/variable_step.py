"""The step of one variable by operations of a backend: what an engine falls back to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from surefoot.engines import plain
from surefoot.engines.contract import RuleOptimizer
from surefoot.rule import rounding
from surefoot.rule.rounding import Position
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision, value_of


class VariableStep(ABC):
    """The part of `surefoot.engines.engine.Engine` that knows one variable at a time."""

    arrays: Any
    """The functions that the rule calls: `surefoot.engines.compiler.symbols` says what they do.

    Besides, ``places`` gives the places of the numbers of an array.
    """

    bits: plain.BitCasts
    """How the backend reinterprets 16-bit floats."""

    @abstractmethod
    def cast(self, value: Array, dtype: Any) -> Array:
        """A tensor in another dtype, given by its name or as the backend has it."""

    def read(self, variable: Any) -> Array:
        """A variable's value, which is not differentiated."""
        return value_of(variable)

    def assign(self, variable: Any, value: Array) -> None:
        """Give a variable, which may be the backend's own, a value of its dtype."""
        variable.assign(value)

    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        """Apply the rule to one variable, by operations of the backend."""
        state = self.read_state(tracked)
        self.write_state(tracked, self.stepped(optimizer, scalars, tracked, state, gradient))

    def stepped(
        self,
        optimizer: RuleOptimizer,
        scalars: StepScalars,
        tracked: Tracked,
        state: plain.VariableState,
        gradient: Array,
        places: Array | None = None,
    ) -> plain.VariableState:
        """What a step makes of the state of one variable, or of some rows of it.

        Args:
            optimizer: The optimizer.
            scalars: Those of the step.
            tracked: The variable.
            state: What `read_state` gave.
            gradient: Of the same shape.
            places: The places of these numbers in the variable. Defaults to all.
        """
        return plain.stepped(
            self.arrays,
            self.cast,
            accumulator_dtype(tracked.variable),
            state,
            gradient,
            self.scalars_for(tracked, scalars),
            rounded=self.stochastic_cast(optimizer, scalars, tracked, gradient, places),
            position=self.position_of_moments(tracked, gradient, places),
        )

    def position_of_moments(
        self, tracked: Tracked, like: Array, places: Array | None = None
    ) -> Position | None:
        """Where numbers shaped as ``like`` are, if their moments are rounded at random."""
        if not any(slot is not None and is_low_precision(slot) for slot in tracked.moments):
            return None
        return self._position(tracked.key, like, places)

    def _position(self, key: int, like: Array, places: Array | None = None) -> Position:
        return Position(key, self.arrays.places(like) if places is None else places)

    def read_state(
        self, tracked: Tracked, read: Callable[[Any], Array] | None = None
    ) -> plain.VariableState:
        """What the rule needs of a variable besides its gradient; ``read`` may read rows of it."""

        def value(variable: Any) -> Any:
            return None if variable is None else (read or self.read)(variable)

        moments = Moments(*map(value, tracked.moments))
        return plain.VariableState(value(tracked.variable), moments, value(tracked.master))

    def write_state(
        self,
        tracked: Tracked,
        state: plain.VariableState,
        write: Callable[[Any, Array], None] | None = None,
    ) -> None:
        """Assign what a step made of `read_state`; ``write`` may write rows of it."""
        variables = [tracked.variable, *tracked.moments, tracked.master]
        values = [state.parameter, *state.moments, state.master]
        for variable, value in zip(variables, values, strict=True):
            if variable is not None:
                (write or self.assign)(variable, value)

    def scalars_for(self, tracked: Tracked, scalars: StepScalars) -> StepScalars:
        """The scalars of one variable in its accumulators' dtype; flags and None as they are."""
        dtype = accumulator_dtype(tracked.variable)
        own = scalars.for_variable(decays=tracked.decays, by_norm=tracked.by_norm)._asdict().items()
        return StepScalars(
            **{k: v if v is None or k == "adaptive" else self.cast(v, dtype) for k, v in own}
        )

    def stochastic_cast(
        self,
        optimizer: RuleOptimizer,
        scalars: StepScalars,
        tracked: Tracked,
        like: Array,
        places: Array | None,
    ) -> plain.Cast | None:
        """Random rounding of a variable below float32 where that is asked for; or None."""
        if optimizer.low_precision != "stochastic" or not is_low_precision(tracked.variable):
            return None
        key = rounding.variable_key(optimizer.seed, tracked.index, lane=rounding.PARAMETER)
        position = self._position(key, like, places)
        source = position.at_step(scalars.step_low, scalars.step_high)
        uniform = rounding.uniform(self.arrays, source)
        return lambda exact, dtype: plain.stochastically_rounded(
            self.arrays, self.cast, self.bits, exact, dtype, uniform
        )

    def exact_value(self, value: Array, master: Array | None) -> Array:
        """A variable's value in its accumulators' dtype."""
        dtype = accumulator_dtype(value)
        return plain.exact_parameter(self.arrays, self.cast, value, master, dtype)

    def assigned_value(
        self, assignment: Assignment, value: Callable[..., Array], scalars: Sequence[Array]
    ) -> Array:
        """What the targets of an assignment get, in their accumulators' dtype."""
        sources = [None if v is None else self.read(v) for v in assignment.sources]
        return self.computed(accumulator_dtype(assignment.targets[0]), value, scalars, sources)

    def computed(
        self,
        dtype: str,
        value: Callable[..., Array],
        scalars: Sequence[Array],
        sources: Sequence[Array | None],
    ) -> Array:
        """What `assign_where`'s ``value`` makes of the values of its sources, in ``dtype``."""

        def exact(parameter: Array, master: Array | None) -> Array:
            return plain.exact_parameter(self.arrays, self.cast, parameter, master, dtype)

        return value(self.arrays, exact, [self.cast(s, dtype) for s in scalars], *sources)

    def target_value(
        self, assignment: Assignment, place: int, exact: Array, scalars: Sequence[Array]
    ) -> Array:
        """The value that the target at a place of an assignment gets."""
        form, target = assignment.forms[place], assignment.targets[place]
        if form != rounding.NEAREST:
            exact, source = self.cast(exact, "float32"), None
            if form == rounding.AT_RANDOM:
                position = self._position(assignment.key, exact)
                source = position.at_step(*scalars[-2:])
            exact = rounding.in_form(self.arrays, exact, form, source)
        return self.cast(exact, target.dtype)
