"""What an engine does for the optimizers: all that depends on the backend goes through here."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras

from surefoot.engines import loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.gradients import GradientEngine
from surefoot.engines.loops import LoopRunner, StepPath
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision, value_of


class Engine(GradientEngine):
    """A backend, as the optimizers use it.

    What is not abstract serves a backend whose variables hold their values all the time. An engine
    overrides what its backend does otherwise.
    """

    SPARSE_GRADIENTS = False
    """Whether Keras's embeddings give sparse gradients on this backend."""

    SHARDS_STATE = False
    """Whether slots can be split over the devices of a `keras.distribution`."""

    COUNTER: type[keras.Variable] = keras.Variable
    """What counts the steps of an optimizer."""

    loop_runner: LoopRunner
    """The module that hands the backend's arrays to compiled loops."""

    arrays: Any
    """The backend's functions under the names of NumPy, as the rule calls them."""

    def step_path(self) -> StepPath:
        """How a step on variables that are made now would be made here, and why so."""
        return self.loop_runner.step_path()

    # Numbers and where they are.

    @abstractmethod
    def scalar_dtype(self) -> str:
        """The dtype of hyperparameters and step scalars: float64 where it is free."""

    def counter_dtype(self) -> str:
        """The widest dtype that whole numbers can have."""
        return "int64"

    def scalar_namespace(self, hyperparameters: Any) -> Any:
        """The array namespace for step scalars, given the hyperparameter variable."""
        del hyperparameters
        return keras.ops

    @abstractmethod
    def scalar(self, value: Any) -> Array:
        """``value``, a number, variable or tensor, in the scalar dtype, unread."""

    def assign_scalar(self, variable: Any, value: Array) -> None:
        """Give a variable of one number the value that was computed of such as `scalar` gave."""
        variable.assign(value)

    def whole_number(self, value: Any) -> Array:
        """A whole number, a variable or tensor, in a dtype in which counts are exact."""
        return keras.ops.cast(value_of(value), self.counter_dtype())

    def numbers(
        self, optimizer: SteppedOptimizer, name: str, compute: Callable[[], Sequence[Array]]
    ) -> Sequence[Array]:
        """What ``compute`` returns: numbers of one step, of such as `scalar` gives.

        It depends on the structure of ``optimizer`` alone, and is known to it by ``name``.
        """
        del optimizer, name
        return compute()

    def numbers_at(self, variable: Any) -> AbstractContextManager[Any]:
        """A scope for functions of Keras or the user, which may copy Python numbers to a device.

        In it they do not wait for the device of ``variable``.
        """
        del variable
        return contextlib.nullcontext()

    @abstractmethod
    def cast(self, value: Array, dtype: Any) -> Array:
        """A tensor in another dtype, given by its name or as the backend has it."""

    def as_int32(self, flag: Array) -> Array:
        """A boolean as 0 or 1."""
        return keras.ops.cast(flag, "int32")

    def all_true(self, flags: Array) -> Array:
        """Whether all of ``flags`` hold."""
        return keras.ops.all(flags)

    # Variables.

    def shape(self, variable: Any) -> tuple[int, ...]:
        """The present shape of a variable: TensorFlow's own may leave it open what that will be."""
        return tuple(variable.shape)

    def colocated(self, reference: Any) -> AbstractContextManager[Any]:
        """A scope in which a variable is created where ``reference`` lives."""
        del reference
        return contextlib.nullcontext()

    def slot_layout(self, reference: Any, shard: bool) -> Any:
        """The layout of a slot of ``reference``: the same, or split further if ``shard``."""
        del reference, shard

    def outside_of_traces(self) -> AbstractContextManager[Any]:
        """A scope in which assignments are made at once and for good, not by a compiled step."""
        return contextlib.nullcontext()

    def state_scope(self, optimizer: Any) -> AbstractContextManager[bool]:
        """A scope in which the optimizer's variables have their values, inside of a ``fit``, too.

        It gives whether a function is being traced, whose values cannot be read.
        """
        del optimizer
        return contextlib.nullcontext(False)

    def reattach(self, variable: Any) -> None:
        """Let a running ``fit`` hand back the value it has taken out of ``variable``."""
        del variable

    def hand_back(self, trainer: Any) -> None:
        """Let a running ``fit`` of ``trainer``, which will fail, keep the values of variables."""
        del trainer

    def native_variable(self, variable: Any) -> Any:
        """What code of 2020 expects in place of a Keras variable: a `tf.Variable`, where one is."""
        return variable

    def initialize_as_copy(self, slot: Any, variable: Any) -> None:
        """Let a new slot start at the value of ``variable``, once."""
        with self.outside_of_traces():
            slot.assign(self.cast(self.read(variable), slot.dtype))

    def assign(self, variable: Any, value: Array) -> None:
        """Give a variable, which may be the backend's own, a value of its dtype."""
        variable.assign(value)

    def exact_value(self, value: Array, master: Array | None) -> Array:
        """A variable's value in its accumulators' dtype, taken from ``master`` if valid."""
        return plain.exact_parameter(
            self.arrays, self.cast, value, master, accumulator_dtype(value)
        )

    def gathered(self, value: Array) -> Array:
        """All of a value, also of what other processes hold; then all of them have to call it."""
        return value

    # The step.

    @abstractmethod
    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        """Run ``optimizer.inline_apply``, compiled once where that pays."""

    def update(
        self,
        optimizer: RuleOptimizer,
        scalars: Callable[[], StepScalars],
        tracked: list[Tracked],
        gradients: list[Any],
    ) -> None:
        """Clip the gradients by value and apply the rule to every variable of ``tracked``.

        ``scalars`` is called once.
        """
        numbers = scalars()
        groups = loops.groups_of(tracked)
        done = loops.update(self.loop_runner, groups, numbers, gradients, optimizer.clipvalue)
        pairs = enumerate(zip(tracked, gradients, strict=True))
        self.update_plainly(optimizer, numbers, [pair for i, pair in pairs if i not in done])

    def update_plainly(
        self,
        optimizer: RuleOptimizer,
        scalars: StepScalars,
        pairs: Iterable[tuple[Tracked, Any]],
    ) -> None:
        """`update` by operations of the backend, variable after variable."""
        for entry, gradient in pairs:
            clipped = self.clip_values(gradient, optimizer.clipvalue)
            self.update_variable(optimizer, scalars, entry, clipped)

    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        """Apply the rule to one variable, by operations of the backend."""
        state = self.read_state(tracked)
        scalars = self.scalars_for(tracked, scalars)
        rounded = self.stochastic_cast(optimizer, tracked, gradient)
        new = plain.stepped(self.arrays, self.cast, state, gradient, scalars, rounded)
        self.write_state(tracked, new)

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
        self, optimizer: RuleOptimizer, tracked: Tracked, gradient: Array
    ) -> plain.Cast | None:
        """Random rounding whose randomness is a function of seed, step and variable; or None."""
        if optimizer.low_precision != "stochastic" or not is_low_precision(tracked.variable):
            return None
        uniform = self.uniform(optimizer, tracked.index, gradient)
        return lambda exact, dtype: plain.stochastically_rounded(
            self.arrays, self.cast, self.bits, exact, dtype, uniform
        )

    @abstractmethod
    def uniform(self, optimizer: RuleOptimizer, index: int, like: Array) -> Array:
        """Random numbers in [0, 1) of the shape of ``like`` for a step of variable ``index``."""

    bits: plain.BitCasts
    """How the backend reinterprets 16-bit floats."""

    @abstractmethod
    def assign_where(
        self,
        condition: Array,
        assignments: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        """Make every assignment where ``condition`` holds.

        ``value(xp, exact, scalars, *sources)`` works element by element; ``exact(value, master)``
        is a variable's value in its accumulators' dtype. It is a function of a module, since a
        loop is compiled for it once.
        """

    def assigned_value(
        self, assignment: Assignment, value: Callable[..., Array], scalars: Sequence[Array]
    ) -> Array:
        """What the targets of an assignment get, in their accumulators' dtype."""
        dtype = accumulator_dtype(assignment.targets[0])
        given = [self.cast(s, dtype) for s in scalars]
        sources = [None if v is None else self.read(v) for v in assignment.sources]
        return value(self.arrays, self.exact_value, given, *sources)

    @abstractmethod
    def run_where(
        self, condition: Array, action: Callable[[], None], state: list[Any], *, only_rule: bool
    ) -> None:
        """Run ``action`` where ``condition`` holds.

        Args:
            condition: A boolean.
            action: Reads and assigns only ``state``.
            state: Variables.
            only_rule: Whether methods of this engine and the counters make all assignments.
        """

    def apply_result(self, optimizer: Any) -> Any:
        """What `apply_gradients` returns: the operation in a graph, else the counter."""
        return optimizer.iterations
