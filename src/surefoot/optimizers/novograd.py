"""NovoGrad: momentum of gradients that are divided by an average of their norm."""

from __future__ import annotations

from typing import Any, Unpack

from surefoot.arguments import checks
from surefoot.arguments.checks import decay_rate, epsilon_or_default, non_negative
from surefoot.arguments.signatures import Number, NumberOrSchedule, RuleArguments
from surefoot.base import registration
from surefoot.base.decayed_rate import DecayedRate
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter
from surefoot.variables.variable import accumulator_dtype


class NovoGradArguments(RuleArguments, total=False):
    """The keywords of `NovoGrad`."""

    decay: Number


class NovoGrad(DecayedRate):
    r"""NovoGrad, as `tfa.optimizers.NovoGrad` computed it.

    The second moment is one number for each variable, an average of the squared
    norm of its gradient (Ginsburg et al., "Stochastic Gradient Methods with
    Layer-wise Adaptive Moments for Training of Deep Networks", 2019,
    https://arxiv.org/abs/1905.11286):

    .. math::

        v_t = \beta_2 v_{t-1} + (1 - \beta_2) \|g_t\|^2, \qquad v_1 = \|g_1\|^2

        u_t = \beta_1 u_{t-1} - \eta_t
            \Big( \frac{g_t}{\sqrt{v_t} + \epsilon} + \lambda \theta \Big), \qquad
        \theta \leftarrow \theta + u_t

    The norms are those of whole variables, however they are split over devices.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.NovoGrad(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([3.0, -4.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.94, 1.08]

    Args:
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the root of the second moment, at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-7.
        weight_decay: The part of a variable that is added to its divided
            gradient, at least 0. A number or, as for ``learning_rate``, a
            schedule. Defaults to 0.
        grad_averaging: Whether gradients enter the first moment times
            ``1 - beta_1``, as in Adam; the first one never does. Defaults to False.
        amsgrad: Whether to divide by the largest second moment so far. Defaults to
            False.
        name: Name of the optimizer. Defaults to ``"NovoGrad"``.
        **kwargs: The keywords below.

    Keywords:
        those of `RectifiedAdam`, with its defaults
            ``decay``, ``low_precision``, ``moments``, ``seed``, ``nonfinite``,
            ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    A sparse gradient (TensorFlow's `tf.IndexedSlices`) changes only the rows that
    it has, as in the original.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    SPARSE_STEP = "nothing"
    BY_NORM = True
    SCALAR_SLOTS = ("v",)

    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)
    weight_decay = Hyperparameter(non_negative, schedulable=True)
    grad_averaging = Hyperparameter(checks.flag_as_number)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        weight_decay: NumberOrSchedule = 0.0,
        grad_averaging: bool = False,
        amsgrad: bool = False,
        name: str = "NovoGrad",
        **kwargs: Unpack[NovoGradArguments],
    ):
        super().__init__(
            learning_rate,
            name,
            {
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
                "grad_averaging": grad_averaging,
            },
            amsgrad=amsgrad,
            **kwargs,
        )

    def slot_dtypes(self, variable: Any) -> dict[str, str]:
        """The slots that this optimizer has for a variable; second moments are not rounded."""
        exact = accumulator_dtype(variable)
        found = super().slot_dtypes(variable)
        return {name: exact if name in ("v", "vhat") else dtype for name, dtype in found.items()}

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """The first moment is the last step, so it holds the learning rate and a sign."""
        h = hyperparameters
        rate = self.scheduled_learning_rate(step, learning_rate, h, xp)
        averaging = h["grad_averaging"]
        share = averaging * h["one_minus_beta_1"] + (1.0 - averaging)
        return StepScalars(
            one_minus_beta_1=h["one_minus_beta_1"],
            one_minus_beta_2=xp.where(step > 1.0, h["one_minus_beta_2"], 1.0),
            gradient_weight=None,
            moment_weight=-1.0,
            root_scale=1.0,
            epsilon=h["epsilon"],
            adaptive=False,
            shrink=0.0,
            gradient_share=-rate * xp.where(step > 1.0, share, 1.0),
            norm_decay=h["weight_decay"],
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {
            "amsgrad": self.amsgrad,
            "grad_averaging": bool(self.grad_averaging),
        }


registration.register(NovoGrad, aliases=("Addons>NovoGrad", "NovoGrad"))
