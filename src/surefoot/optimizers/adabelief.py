"""AdaBelief: Adam that divides by how far gradients are from what was expected of them."""

from __future__ import annotations

from typing import Any, Unpack

from surefoot.arguments import checks
from surefoot.arguments.checks import (
    decay_rate,
    epsilon_or_default,
    finite,
    non_negative,
    proportion,
    whole_number,
)
from surefoot.arguments.signatures import MomentArguments, Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.base.decayed_rate import DecayedRate
from surefoot.optimizers.rectified_adam import rectified_adam_scalars, warmed_up_rate
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter


class AdaBeliefArguments(MomentArguments, total=False):
    """The keywords of `AdaBelief`."""

    decay: Number


class AdaBelief(DecayedRate):
    r"""AdaBelief, as `tfa.optimizers.AdaBelief` computed it.

    Adam's second moment is of the gradients, and this one is of their distances
    from the first moment, the gradient that was expected (Zhuang et al.,
    "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
    Gradients", NeurIPS 2020, https://arxiv.org/abs/2010.07468):

    .. math::

        s_t = \beta_2 s_{t-1} + (1 - \beta_2) (g_t - m_t)^2 + \epsilon

    With ``rectify`` the step is RAdam's, else Adam's.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.AdaBelief(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.9, 1.2]

    Args:
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the second moment in each step, and to its root, at
            least 0; None means `keras.config.epsilon()`. Defaults to 1e-14.
        weight_decay: Decoupled weight decay; each step multiplies a variable by
            ``1 - learning_rate * weight_decay``, with the learning rate of that
            step, decay and warmup included. A number or, as for
            ``learning_rate``, a schedule. Defaults to 0.
        amsgrad: Whether to divide by the largest second moment so far. Not in the
            paper. Defaults to False.
        rectify: Whether the variance of the first steps is rectified, as in
            `RectifiedAdam`. Defaults to True.
        sma_threshold: See `RectifiedAdam`. Defaults to 5.
        total_steps: Number of updates over which the learning rate rises and
            falls linearly; 0 switches this off. Defaults to 0.
        warmup_proportion: Share of ``total_steps`` in which the learning rate
            rises from 0, in [0, 1]. Defaults to 0.1.
        min_lr: The learning rate that is reached at ``total_steps`` and kept.
            Defaults to 0.
        name: Name of the optimizer. Defaults to ``"AdaBelief"``.
        **kwargs: The keywords below.

    Keywords:
        those of `RectifiedAdam`, with its defaults
            ``decay``, ``low_precision``, ``moments``, ``seed``, ``lazy``, ``nonfinite``,
            ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)
    weight_decay = Hyperparameter(non_negative, schedulable=True)
    sma_threshold = Hyperparameter(finite)
    total_steps = Hyperparameter(whole_number, whole=True)
    warmup_proportion = Hyperparameter(proportion)
    min_lr = Hyperparameter(non_negative)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-14,
        weight_decay: NumberOrSchedule | None = 0.0,
        amsgrad: bool = False,
        rectify: bool = True,
        sma_threshold: Number = 5.0,
        total_steps: Number = 0,
        warmup_proportion: Number = 0.1,
        min_lr: Number = 0.0,
        name: str = "AdaBelief",
        **kwargs: Unpack[AdaBeliefArguments],
    ):
        checks.check_flag("rectify", rectify)
        super().__init__(
            learning_rate,
            name,
            {
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": 0.0 if weight_decay is None else weight_decay,
                "sma_threshold": sma_threshold,
                "total_steps": total_steps,
                "warmup_proportion": warmup_proportion,
                "min_lr": min_lr,
            },
            amsgrad=amsgrad,
            **kwargs,
        )
        self._rectify = bool(rectify)

    @property
    def rectify(self) -> bool:
        """Whether the first steps are rectified; fixed at construction."""
        return self._rectify

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """Those of RectifiedAdam, or of Adam, with another second moment."""
        h = hyperparameters
        scalars = rectified_adam_scalars(step, learning_rate, h, xp)
        scalars = scalars._replace(belief_epsilon=h["epsilon"])
        if self._rectify:
            return scalars
        correction = formulas.bias_correction(h["one_minus_beta_1"], step, xp)
        rate = self.scheduled_learning_rate(step, learning_rate, h, xp)
        return scalars._replace(moment_weight=rate / correction, adaptive=True)

    def scheduled_learning_rate(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> Array:
        """The learning rate after ``decay`` and warmup."""
        return warmed_up_rate(step, learning_rate, hyperparameters, xp)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {"amsgrad": self.amsgrad, "rectify": self.rectify}


registration.register(AdaBelief, aliases=("Addons>AdaBelief", "AdaBelief"))
