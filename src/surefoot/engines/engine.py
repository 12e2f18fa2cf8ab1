"""What an engine does for the optimizers: all that depends on the backend goes through here."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras

from surefoot.engines import loops
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.gradients import GradientEngine
from surefoot.engines.loops import LoopRunner, StepPath
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import value_of


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
