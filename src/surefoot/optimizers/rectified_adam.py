"""RectifiedAdam: Adam with the variance of its first steps rectified."""

from __future__ import annotations

from typing import Any, Literal, Unpack

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
from surefoot.base.moment_optimizer import MomentOptimizer
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter

UNRECTIFIED_UPDATES = ("momentum", "skip")


class RectifiedAdamArguments(MomentArguments, total=False):
    """The keywords of `RectifiedAdam`."""

    unrectified_update: Literal["momentum", "skip"]
    decay: Number


class RectifiedAdam(MomentOptimizer):
    r"""RAdam, as `tfa.optimizers.RectifiedAdam` computed it.

    In its first steps Adam divides by the root of an average of very few
    squared gradients. RAdam (Liu et al., "On the Variance of the Adaptive
    Learning Rate and Beyond", ICLR 2020, https://arxiv.org/abs/1908.03265)
    multiplies the step by a factor :math:`r_t \le 1` that keeps the variance of
    that ratio constant, and while the average is too short for the factor to
    exist (5 steps with ``beta_2 = 0.999``) takes a step of plain momentum:

    .. math::

        \rho_\infty = \tfrac{2}{1-\beta_2} - 1, \qquad
        \rho_t = \rho_\infty - \tfrac{2 t \beta_2^t}{1-\beta_2^t}, \qquad
        r_t = \sqrt{\tfrac{(\rho_t-4)(\rho_t-2)\rho_\infty}
                          {(\rho_\infty-4)(\rho_\infty-2)\rho_t}}

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.RectifiedAdam(learning_rate=0.1)
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
        epsilon: Added to the root of the second moment, at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-7.
        weight_decay: Decoupled weight decay; each step multiplies a variable by
            ``1 - learning_rate * weight_decay``, with the learning rate of that
            step, decay and warmup included. A number or, as for
            ``learning_rate``, a schedule. Defaults to 0.
        amsgrad: Whether to divide by the largest second moment so far (Reddi et
            al. 2018). Not in RAdam's paper. Defaults to False.
        sma_threshold: Steps with :math:`\rho_t` of at least this are rectified.
            Defaults to 5.
        total_steps: Number of updates over which the learning rate rises and
            falls linearly; 0 switches this off. A float must have a whole
            value. Defaults to 0.
        warmup_proportion: Share of ``total_steps`` in which the learning rate
            rises from 0, in [0, 1]. Defaults to 0.1.
        min_lr: The learning rate that is reached at ``total_steps`` and kept.
            Defaults to 0.
        name: Name of the optimizer. Defaults to ``"RectifiedAdam"``.
        **kwargs: The keywords below.

    Keywords:
        ``unrectified_update`` : default ``"momentum"``
            What happens while steps cannot be rectified yet. ``"momentum"`` takes
            a step of plain momentum, as in TensorFlow Addons. ``"skip"``, the
            later choice of the paper's author, updates only the moments: no
            weight moves, or is decayed.
        ``decay`` : default 0
            The learning rate is divided by ``1 + decay * updates``.
        ``low_precision`` : default ``"master"``
            How variables in bfloat16 and float16 are updated. ``"master"`` keeps
            what they lack to float32: of bfloat16 the lower 16 bits, of float16 a
            float32 copy, which is used as long as the variable is equal to the
            rounded copy. ``"stochastic"`` saves that memory and rounds up or down
            at random, which is right on average. ``"nearest"`` rounds to the
            nearest value and loses small updates.
        ``moments`` : default ``"float32"``
            How the moments are stored; they are computed in float32, those of
            float64 variables in float64. In ``"bfloat16"`` they take half the
            memory. They are rounded up or down at random, so that their means
            are right; rounded to the nearest, the second moment would stop
            moving. A file of one setting loads into the other.
        ``seed`` : default 0
            Seed of the random bits of ``moments`` and ``low_precision``: a
            function of seed, variable, step and element, on all backends the
            same, so that a training can be repeated and resumed exactly.
        ``lazy`` : default False
            With a sparse gradient (TensorFlow's `tf.IndexedSlices`), update the
            moments only in the rows that have a gradient. The originals let the
            moments of all rows decay.
        ``nonfinite`` : default ``"propagate"``
            What a NaN or infinite gradient does. ``"propagate"`` updates the
            variables with it, as in the originals. ``"skip"`` skips the whole
            step and counts it in ``skipped_steps``. ``"raise"`` raises an error.
        ``shard_state`` : default False
            Split each moment over the devices that share a batch under a
            `keras.distribution` (ZeRO-1), instead of keeping all of it on each.
            On JAX only.
        ``lr``
            Old name of ``learning_rate``.
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
    decay = Hyperparameter(non_negative)

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
        name: str = "RectifiedAdam",
        **kwargs: Unpack[RectifiedAdamArguments],
    ):
        unrectified_update = checks.choice(
            "unrectified_update", kwargs.pop("unrectified_update", "momentum"), UNRECTIFIED_UPDATES
        )
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
                "decay": kwargs.pop("decay", 0.0),
            },
            amsgrad=amsgrad,
            **kwargs,
        )
        self._unrectified_update = unrectified_update

    @property
    def unrectified_update(self) -> str:
        """What happens while a step is not yet rectified, "momentum" or "skip"."""
        return self._unrectified_update

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """See `rectified_adam_scalars`."""
        return rectified_adam_scalars(
            step, learning_rate, hyperparameters, xp, self._unrectified_update
        )

    def scheduled_learning_rate(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> Array:
        """The learning rate after ``decay``, warmup and rectification."""
        scheduled = warmed_up_rate(step, learning_rate, hyperparameters, xp)
        return scheduled * _factor(step, hyperparameters, xp, self._unrectified_update)[1]

    def decayed_rate(self) -> Array:
        """The learning rate of the update that comes next, after ``decay`` alone."""
        step, learning_rate, hyperparameters, _ = self.step_arguments(self.learning_rate)
        return formulas.inverse_time_decay(learning_rate, hyperparameters["decay"], step)

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """The effective learning rate, and the factor of rectification in it."""
        step, _, hyperparameters, xp = self.step_arguments(learning_rate)
        factor = _factor(step, hyperparameters, xp, self._unrectified_update)[1]
        return super().step_rates(learning_rate) | {"rectification": factor}

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {
            "amsgrad": self.amsgrad,
            "unrectified_update": self._unrectified_update,
        }


def warmed_up_rate(
    step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
) -> Array:
    """The learning rate of update ``step`` after ``decay`` and the built-in warmup."""
    h = hyperparameters
    decayed = formulas.inverse_time_decay(learning_rate, h["decay"], step)
    return formulas.warmup_and_decay(
        decayed, step, h["total_steps"], h["warmup_proportion"], h["min_lr"], xp
    )


def _factor(
    step: Array, hyperparameters: dict[str, Array], xp: Any, unrectified_update: str
) -> tuple[Array, Array]:
    """Whether the step is rectified, and by what it is multiplied."""
    rectified, factor = formulas.rectification(
        hyperparameters["one_minus_beta_2"], step, hyperparameters["sma_threshold"], xp
    )
    if unrectified_update == "skip":
        factor = xp.where(rectified, factor, xp.zeros_like(factor))
    return rectified, factor


def rectified_adam_scalars(
    step: Array,
    learning_rate: Array,
    hyperparameters: dict[str, Array],
    xp: Any,
    unrectified_update: str = "momentum",
) -> StepScalars:
    """The scalars of RAdam's update number ``step``.

    Args:
        step: Number of the update, from 1; a float scalar or array.
        learning_rate: The learning rate before ``decay`` and warmup.
        hyperparameters: By name, the betas as ``one_minus_beta_1`` and
            ``one_minus_beta_2``.
        xp: Array namespace, NumPy or `keras.ops`.
        unrectified_update: "momentum" or "skip".

    Returns:
        `StepScalars`; ``adaptive`` says whether the step is rectified.
    """
    h = hyperparameters
    rate = warmed_up_rate(step, learning_rate, h, xp)
    rectified, factor = _factor(step, h, xp, unrectified_update)
    decay = rate * h["weight_decay"]
    correction_1 = formulas.bias_correction(h["one_minus_beta_1"], step, xp)
    correction_2 = formulas.bias_correction(h["one_minus_beta_2"], step, xp)
    return StepScalars(
        one_minus_beta_1=h["one_minus_beta_1"],
        one_minus_beta_2=h["one_minus_beta_2"],
        gradient_weight=None,
        moment_weight=rate * factor / correction_1,
        root_scale=1.0 / xp.sqrt(correction_2),
        epsilon=h["epsilon"],
        adaptive=rectified,
        shrink=decay if unrectified_update == "momentum" else xp.where(rectified, decay, 0.0),
    )


registration.register(RectifiedAdam, aliases=("Addons>RectifiedAdam", "RectifiedAdam"))
