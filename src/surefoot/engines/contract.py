"""What an engine provides: a module of functions, one per name below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from surefoot.engines.loops import StepPath
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked


class SteppedOptimizer(Protocol):
    """What an engine asks of the optimizer whose step it runs; see `surefoot.base`."""

    name: str
    built: bool
    iterations: Any
    variables: Any
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    aggregates_gradients: bool
    step_lock: AbstractContextManager[Any]
    eager_steps: dict[Any, Any]
    _iterations: Any
    _trainable_variables: list[Any]

    def inline_apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """The update itself, traced or executed where it stands."""

    def all_trainable_variables(self, variables: Any) -> list[Any]:
        """The variables of a step, after building for them if need be."""

    def compile_key(self) -> tuple[int, ...]:
        """A number that changes with what compiled steps hold fixed."""

    def compiles_eagerly(self) -> bool:
        """Whether an eager step may be compiled."""

    def clips_in_update(self) -> bool:
        """Whether `Engine.update` clips gradients by value, in its pass over memory."""

    def refuse_nonfinite(self, gradients: list[Any], variables: list[Any]) -> None:
        """Raise for a gradient that is not finite while nothing has been started."""

    def rule_state(self) -> list[Any]:
        """The slots that only the rule writes, so that a step may reuse their memory."""


class RuleOptimizer(SteppedOptimizer, Protocol):
    """What an engine asks of an optimizer whose step is the rule."""

    tracked_variables: list[Tracked]

    @property
    def low_precision(self) -> str:
        """How variables below float32 are rounded."""

    @property
    def lazy(self) -> bool:
        """Whether a sparse gradient leaves the moments of other rows alone."""

    @property
    def seed(self) -> int:
        """Seed of the stochastic rounding."""


class Engine(Protocol):
    """The contract between the optimizers and a backend."""

    SPARSE_GRADIENTS: bool
    """Whether Keras's embeddings give sparse gradients on this backend."""

    SHARDS_STATE: bool
    """Whether slots can be split over the devices of a `keras.distribution`."""

    def step_path(self) -> StepPath:
        """How a step on variables that are made now would be made here, and why so."""

    def scalar_dtype(self) -> str:
        """The dtype of hyperparameters and step scalars: float64 where it is free."""

    def counter_dtype(self) -> str:
        """The widest dtype that whole numbers can have."""

    def scalar_namespace(self, hyperparameters: Any) -> Any:
        """The array namespace for step scalars, given the hyperparameter variable."""

    def scalar(self, value: Any) -> Array:
        """``value``, a number, variable or tensor, in the scalar dtype, unread."""

    def colocated(self, reference: Any) -> AbstractContextManager[Any]:
        """A scope in which a variable is created where ``reference`` lives."""

    def shape(self, variable: Any) -> tuple[int, ...]:
        """The present shape of a variable: TensorFlow's own may leave it open what that will be."""

    def outside_of_traces(self) -> AbstractContextManager[Any]:
        """A scope in which assignments are made at once and for good, not by a compiled step."""

    def slot_layout(self, reference: Any, shard: bool) -> Any:
        """The layout of a slot of ``reference``: the same, or split further if ``shard``."""

    def as_tensors(self, gradients: Iterable[Any]) -> list[Any]:
        """Gradients given as anything that the backend takes for tensors; None stays None."""

    def widen(self, gradients: list[Any]) -> list[Any]:
        """Gradients in at least float32; None stays None."""

    def clip(
        self,
        optimizer: SteppedOptimizer,
        gradients: list[Any],
        keras_clip: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """Clip as the arguments of ``optimizer`` say, by Keras's own function where it is exact.

        Clipping by value may be left to `update`.
        """

    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        """Run ``optimizer.inline_apply``, compiled once where that pays."""

    def update(
        self,
        optimizer: RuleOptimizer,
        scalars: Callable[[], StepScalars],
        tracked: list[Tracked],
        gradients: list[Any],
    ) -> None:
        """Apply the rule to every variable of ``tracked``; ``scalars`` is called once."""

    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        """Apply the rule to one variable, the plain way."""

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

    def state_scope(self, optimizer: Any) -> AbstractContextManager[bool]:
        """A scope in which the optimizer's variables have their values, inside of a ``fit``, too.

        It gives whether they are those of a function that is traced, which nobody can read.
        """

    def reattach(self, variable: Any) -> None:
        """Let a running ``fit`` hand back the value it has taken out of ``variable``."""

    def hand_back(self, trainer: Any) -> None:
        """Let a running ``fit`` of ``trainer``, which will fail, keep the values of variables."""

    def native_variable(self, variable: Any) -> Any:
        """What code of 2020 expects in place of a Keras variable: a `tf.Variable`, where one is."""

    def apply_result(self, optimizer: Any) -> Any:
        """What `apply_gradients` returns: the operation in a graph, else the counter."""

    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
    ) -> tuple[list[Any], list[Any]]:
        """Differentiate ``loss``; return gradients and variables."""

    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        """Differentiate a tensor of a graph."""

    def exact_value(self, value: Array, master: Array | None) -> Array:
        """A variable's value in its accumulators' dtype, taken from ``master`` if valid."""

    def gathered(self, value: Array) -> Array:
        """All of a value, also of what other processes hold; then all of them have to call it."""

    def initialize_as_copy(self, slot: Any, variable: Any) -> None:
        """Let a new slot start at the value of ``variable``, once."""

    def finite(self, gradients: list[Any]) -> Array:
        """For each gradient, whether all of it is finite: a boolean vector."""

    def all_true(self, flags: Array) -> Array:
        """Whether all of ``flags`` hold."""

    def global_norm(self, tensors: list[Any]) -> Array:
        """The Euclidean norm of all elements together, in float32.

        Of a sparse gradient, rows that are given twice are added first.
        """

    def snapshot(self, variables: list[Any]) -> list[Array]:
        """Their values in at least float32, which no later step changes."""

    def distance(self, before: list[Array], variables: list[Any]) -> Array:
        """How far ``variables`` are from a `snapshot`, in float32; it may be used up."""

    def as_int32(self, flag: Array) -> Array:
        """A boolean as 0 or 1."""

    def run_where(self, condition: Array, action: Callable[[], None], state: list[Any]) -> None:
        """Run ``action``, which reads and assigns only ``state``, where ``condition`` holds."""

    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
        """Raise FloatingPointError naming the variables whose flag is False.

        Returns the flags; what is computed from these comes after the report.

        In a compiled step, where nothing can be raised at once, the error
        arrives through the runtime; the step is skipped as well.
        """
