"""Types of the optimizers' arguments, for type checkers.

The constructors keep the originals' positional arguments and take all others as keywords; these
types list the keywords. At runtime, `surefoot.arguments.keywords` and
`surefoot.state.hyperparameters` check them, with better messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, SupportsFloat, TypedDict


class Schedule(Protocol):
    """A `keras.optimizers.schedules.LearningRateSchedule`.

    A protocol, because Keras has no type annotations: a type checker would accept any value
    for its class.
    """

    def __call__(self, step: Any) -> Any:
        """The value after a number of updates."""

    def get_config(self) -> Any:
        """The configuration from which the schedule can be created again."""


Number = SupportsFloat
"""A number of Python or NumPy, or a scalar tensor of any backend."""

NumberOrSchedule = SupportsFloat | Schedule | Mapping[str, Any] | Callable[[], Any]
"""The mapping is a serialized schedule."""


class KerasArguments(TypedDict, total=False):
    """The keywords of every Keras optimizer, and those that all optimizers here add."""

    clipnorm: Number | None
    clipvalue: Number | None
    global_clipnorm: Number | None
    use_ema: bool
    ema_momentum: Number
    ema_overwrite_frequency: int | None
    loss_scale_factor: Number | None
    gradient_accumulation_steps: int | None
    nonfinite: Literal["propagate", "skip", "raise"]
    shard_state: bool


class RuleArguments(KerasArguments, total=False):
    """The keywords of the optimizers whose step is the rule."""

    lr: NumberOrSchedule
    low_precision: Literal["master", "stochastic", "nearest"]
    moments: Literal["float32", "bfloat16"]
    seed: int


class MomentArguments(RuleArguments, total=False):
    """The keywords of those whose moments of all rows follow a sparse gradient, or need not."""

    lazy: bool
