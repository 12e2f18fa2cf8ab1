"""Adam: what an optimizer of the family needs at the least."""

from __future__ import annotations

from typing import Any, Unpack

from surefoot.arguments.checks import decay_rate, epsilon_or_default
from surefoot.arguments.signatures import MomentArguments, Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.base.moment_optimizer import MomentOptimizer
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter


class AdamArguments(MomentArguments, total=False):
    """The keywords of `Adam`."""


class Adam(MomentOptimizer):
    """Adam (Kingma and Ba, 2015, end of section 2).

    Example:
    >>> import surefoot
    >>> surefoot.Adam(0.01).beta_1
    0.9

    Args:
        learning_rate: A number or a schedule. Defaults to 0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the root of the second moment. Defaults to 1e-7.
        name: Name of the optimizer. Defaults to "Adam".
        **kwargs: The keywords below.

    Keywords:
        those of `RectifiedAdam`, with its defaults
            ``low_precision``, ``moments``, ``seed``, ``lazy``, ``nonfinite``,
            ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``, ``ema_momentum``,
            ``ema_overwrite_frequency``, ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        ValueError: If an argument is out of range.
    """

    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-07,
        name: str = "Adam",
        **kwargs: Unpack[AdamArguments],
    ):
        values = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(learning_rate, name, values, **kwargs)

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """The scalars of Adam's update number ``step``."""
        first, second = hyperparameters["one_minus_beta_1"], hyperparameters["one_minus_beta_2"]
        root = xp.sqrt(formulas.bias_correction(second, step, xp))
        return StepScalars(
            one_minus_beta_1=first,
            one_minus_beta_2=second,
            gradient_weight=None,
            moment_weight=learning_rate * root / formulas.bias_correction(first, step, xp),
            root_scale=xp.ones_like(root),
            epsilon=hyperparameters["epsilon"],
            shrink=xp.zeros_like(root),
            adaptive=True,
        )


registration.register(Adam)
