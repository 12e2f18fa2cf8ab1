"""What the optimizers' arguments are to a type checker.

The constructors keep the originals' positional arguments and take the rest as keywords; these
types say which keywords those are. Checked at runtime by `surefoot.arguments.keywords` and
`surefoot.state.hyperparameters`, whose messages say more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, SupportsFloat, TypedDict


class Schedule(Protocol):
    """A `keras.optimizers.schedules.LearningRateSchedule`.

    Described by what it does: Keras ships no types, and a class without types would let
    everything else pass too.
    """

    def __call__(self, step: Any) -> Any:
        """The value at a number of updates."""

    def get_config(self) -> Any:
        """What the schedule can be made from again."""


Number = SupportsFloat
"""Of Python or NumPy, or a scalar tensor of any backend."""

NumberOrSchedule = SupportsFloat | Schedule | Mapping[str, Any] | Callable[[], Any]
"""The mapping is a serialized schedule."""


class KerasArguments(TypedDict, total=False):
    """What every Keras optimizer takes, and what all of ours take besides."""

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


class MomentArguments(KerasArguments, total=False):
    """The keywords of the optimizers with moments."""

    lr: NumberOrSchedule
    low_precision: Literal["master", "stochastic", "nearest"]
    seed: int
    lazy: bool
