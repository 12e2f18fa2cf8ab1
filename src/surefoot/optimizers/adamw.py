"""AdamW: Adam with a weight decay that the learning rate does not scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from surefoot.arguments.checks import decay_rate, epsilon_or_default, non_negative
from surefoot.arguments.signatures import MomentArguments, Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.base.decay_lists import DecayLists
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter


class AdamWArguments(MomentArguments, total=False):
    """The keywords of `AdamW`."""

    exclude_from_weight_decay: Sequence[str] | None
    decay: Number


class AdamW(DecayLists):
    r"""AdamW, as `tfa.optimizers.AdamW` computed it.

    Adam as in TensorFlow, with decoupled weight decay (Loshchilov & Hutter,
    "Decoupled Weight Decay Regularization", ICLR 2019,
    https://arxiv.org/abs/1711.05101):

    .. math::

        \theta \leftarrow \theta - \lambda_t \theta
            - \eta_t \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \frac{m_t}{\sqrt{v_t} + \epsilon}

    `keras.optimizers.AdamW` multiplies ``weight_decay`` by the learning rate, and
    this one does not: a weight decay of 1e-4 here is one of 0.1 there, if the
    learning rate is 0.001. If the learning rate follows a schedule, let
    ``weight_decay`` follow one, too.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.AdamW(weight_decay=0.25, learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.65, 0.85]

    Args:
        weight_decay: Each step multiplies a variable by ``1 - weight_decay``. A
            number, a schedule or, as for ``learning_rate``, its dictionary or a
            callable.
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the root of the second moment as it is kept ("epsilon
            hat" in the paper of Adam), at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-7.
        amsgrad: Whether to divide by the largest second moment so far (Reddi et
            al. 2018). Defaults to False.
        name: Name of the optimizer. Defaults to ``"AdamW"``.
        **kwargs: The keywords below.

    Keywords:
        ``exclude_from_weight_decay`` : default None
            A list of regular expressions. A variable does not decay if one is
            found in its path or its name. The argument ``decay_var_list`` of
            `apply_gradients` and `minimize` goes before it.
        ``decay`` : default 0
            The learning rate is divided by ``1 + decay * updates``.
        ``lazy`` : default False
            With a sparse gradient (TensorFlow's `tf.IndexedSlices`), update only
            the rows that have a gradient. The original updates all rows, and
            decays the weights of those with a gradient.
        those of `RectifiedAdam`, with its defaults
            ``low_precision``, ``moments``, ``seed``, ``nonfinite``, ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    SPARSE_STEP = "all"

    weight_decay = Hyperparameter(non_negative, schedulable=True)
    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)

    def __init__(
        self,
        weight_decay: NumberOrSchedule,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-07,
        amsgrad: bool = False,
        name: str = "AdamW",
        **kwargs: Unpack[AdamWArguments],
    ):
        super().__init__(
            learning_rate,
            name,
            {
                "weight_decay": weight_decay,
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
            },
            amsgrad=amsgrad,
            **kwargs,
        )

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """See `adam_scalars`."""
        rate = self.scheduled_learning_rate(step, learning_rate, hyperparameters, xp)
        scalars = adam_scalars(step, rate, hyperparameters, xp)
        return scalars._replace(shrink=hyperparameters["weight_decay"])

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {"amsgrad": self.amsgrad}


def adam_scalars(
    step: Array, rate: Array, hyperparameters: dict[str, Array], xp: Any
) -> StepScalars:
    """The scalars of Adam's update number ``step``, without weight decay.

    Args:
        step: Number of the update, from 1; a float scalar.
        rate: The learning rate of this update.
        hyperparameters: By name, the betas as ``one_minus_beta_1`` and
            ``one_minus_beta_2``.
        xp: Array namespace, NumPy or `keras.ops`.

    Returns:
        `StepScalars` with epsilon beside the root of the moment as it is kept.
    """
    h = hyperparameters
    correction_1 = formulas.bias_correction(h["one_minus_beta_1"], step, xp)
    correction_2 = formulas.bias_correction(h["one_minus_beta_2"], step, xp)
    return StepScalars(
        one_minus_beta_1=h["one_minus_beta_1"],
        one_minus_beta_2=h["one_minus_beta_2"],
        gradient_weight=None,
        moment_weight=rate * xp.sqrt(correction_2) / correction_1,
        root_scale=1.0,
        epsilon=h["epsilon"],
        adaptive=True,
        shrink=0.0,
    )


registration.register(AdamW, aliases=("Addons>AdamW",))
