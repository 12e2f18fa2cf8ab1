"""Ranger: RectifiedAdam inside Lookahead, as one optimizer."""

from __future__ import annotations

from typing import Any, Unpack

from surefoot.arguments import keywords
from surefoot.arguments.signatures import Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.optimizers.lookahead import Lookahead, LookaheadArguments
from surefoot.optimizers.rectified_adam import RectifiedAdam, RectifiedAdamArguments
from surefoot.state.hyperparameters import Hyperparameter

_LOOKAHEAD_ARGUMENTS = (*keywords.BASE_ARGUMENTS, "nonfinite", "finalize", "slow_weights")


class RangerArguments(RectifiedAdamArguments, LookaheadArguments, total=False):
    """The keywords of `Ranger`: those of the two it is made of."""


class Ranger(Lookahead):
    """RectifiedAdam inside Lookahead, with one flat list of arguments.

    The combination that Less Wright named Ranger. It computes what
    ``Lookahead(RectifiedAdam(...), sync_period, slow_step_size)`` computes; all
    of RectifiedAdam's hyperparameters are live attributes here too.

    Example:
        >>> import surefoot
        >>> optimizer = surefoot.Ranger(learning_rate=3e-3, total_steps=1000, sync_period=5)
        >>> optimizer.total_steps, optimizer.sync_period
        (1000, 5)

    Args:
        learning_rate: See `RectifiedAdam`, as all up to ``min_lr``. Defaults to
            0.001.
        beta_1: Decay rate of the first moment. Defaults to 0.9.
        beta_2: Decay rate of the second moment. Defaults to 0.999.
        epsilon: Added to the root of the second moment. Defaults to 1e-7.
        weight_decay: Decoupled weight decay. Defaults to 0.
        amsgrad: Whether to divide by the largest second moment. Defaults to False.
        sma_threshold: From where on steps are rectified. Defaults to 5.
        total_steps: Updates of the built-in schedule, 0 for none. Defaults to 0.
        warmup_proportion: Share of ``total_steps`` to warm up. Defaults to 0.1.
        min_lr: Learning rate at the end of ``total_steps``. Defaults to 0.
        sync_period: Number of updates in a period, see `Lookahead`. Defaults to 6.
        slow_step_size: How far the slow weights follow, in [0, 1]. Defaults to 0.5.
        name: Name of the optimizer. Defaults to ``"Ranger"``.
        **kwargs: The keywords below.

    Keywords:
        those of `RectifiedAdam`, with its defaults
            ``unrectified_update``, ``decay``, ``low_precision``, ``moments``,
            ``seed``, ``lazy``, ``lr``, ``shard_state``.
        those of `Lookahead`, with its defaults
            ``finalize``, ``slow_weights``, ``nonfinite``, ``shard_state``, and
            those of every Keras optimizer (``clipnorm`` and so on).

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-07,
        weight_decay: NumberOrSchedule | None = 0.0,
        amsgrad: bool = False,
        sma_threshold: Number = 5.0,
        total_steps: Number = 0,
        warmup_proportion: Number = 0.1,
        min_lr: Number = 0.0,
        sync_period: Number = 6,
        slow_step_size: Number = 0.5,
        name: str = "Ranger",
        **kwargs: Unpack[RangerArguments],
    ):
        options: dict[str, Any] = {**kwargs}
        lookahead_arguments = {
            key: options.pop(key) for key in _LOOKAHEAD_ARGUMENTS if key in options
        }
        if "shard_state" in options:
            lookahead_arguments["shard_state"] = options["shard_state"]
        inner = RectifiedAdam(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            sma_threshold=sma_threshold,
            total_steps=total_steps,
            warmup_proportion=warmup_proportion,
            min_lr=min_lr,
            **options,
        )
        super().__init__(inner, sync_period, slow_step_size, name, **lookahead_arguments)

    @property
    def amsgrad(self) -> bool:
        """Whether the largest second moment so far is used; fixed at construction."""
        amsgrad: bool = self.inner_optimizer.amsgrad
        return amsgrad

    @property
    def unrectified_update(self) -> str:
        """What happens while a step is not yet rectified, "momentum" or "skip"."""
        unrectified_update: str = self.inner_optimizer.unrectified_update
        return unrectified_update

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """Nothing: every argument has its default."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: both parts, flat."""
        inner = self.inner_optimizer.get_config()
        own = super().get_config()
        own.pop("optimizer")
        return {k: v for k, v in inner.items() if k not in _LOOKAHEAD_ARGUMENTS} | own


def _delegated(hyperparameter: Hyperparameter) -> property:
    """A property that is the inner optimizer's ``hyperparameter``."""

    def read(self: Ranger) -> Any:
        return hyperparameter.__get__(self.inner_optimizer)

    def write(self: Ranger, value: Any) -> None:
        if "inner_optimizer" in self.__dict__:  # else Keras's base class sets its default
            hyperparameter.__set__(self.inner_optimizer, value)

    return property(read, write, doc=f"RectifiedAdam's ``{hyperparameter.name}``.")


for _hyperparameter in RectifiedAdam.declared_hyperparameters():
    setattr(Ranger, _hyperparameter.name, _delegated(_hyperparameter))

registration.register(Ranger, aliases=("Ranger",))
