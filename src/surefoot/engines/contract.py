"""What an engine asks of the optimizer whose step it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Protocol

from surefoot.variables.tracked import Tracked

SparseStep = Literal["moments", "nothing", "undecayed", "all", "dense"]
"""What a sparse gradient changes besides the rows that it has.

``"moments"``: the moments of all rows. ``"nothing"``: lazy. ``"undecayed"``: nothing, and
those rows are not decayed. ``"all"``: all that a gradient of zero
changes, which is everything but weight decay. ``"dense"``: the gradient is taken for a dense one.
"""


class SteppedOptimizer(Protocol):
    """What an engine asks of every optimizer; `surefoot.base` has them."""

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

    def are_all(self, variables: list[Any]) -> bool:
        """Whether these are all variables that the optimizer was built for, in their order."""

    def repeats_steps(self) -> bool:
        """Whether all steps do the same, and only code of this package runs in them."""

    def clips_in_update(self) -> bool:
        """Whether `Engine.update` clips gradients by value, in its pass over memory."""

    def refuse_nonfinite(self, gradients: list[Any], variables: list[Any]) -> None:
        """Raise for a gradient that is not finite while nothing has been started."""

    def rule_state(self) -> list[Any]:
        """The slots that only the rule writes, so that a step may reuse their memory."""


class RuleOptimizer(SteppedOptimizer, Protocol):
    """What an engine asks of an optimizer whose step is the rule."""

    tracked_variables: list[Tracked]

    BY_NORM: ClassVar[bool]
    """Whether steps depend on the norms of whole tensors."""

    @property
    def low_precision(self) -> str:
        """How variables below float32 are rounded."""

    @property
    def rounds_at_random(self) -> bool:
        """Whether random bits decide what is stored."""

    @property
    def sparse_step(self) -> SparseStep:
        """What a sparse gradient changes besides the rows that it has."""

    @property
    def seed(self) -> int:
        """Seed of the stochastic rounding."""
