"""LAMB: Adam whose steps are as long as the weights that they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from surefoot.arguments.checks import decay_rate, epsilon_or_default, non_negative
from surefoot.arguments.keywords import take_alias
from surefoot.arguments.signatures import Number, NumberOrSchedule, RuleArguments
from surefoot.base import registration
from surefoot.base.decay_lists import DecayLists, listed
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter
from surefoot.variables.variable import exclusion_test


class LAMBArguments(RuleArguments, total=False):
    """The keywords of `LAMB`."""

    weight_decay_rate: Number
    decay: Number


class LAMB(DecayLists):
    r"""LAMB, as `tfa.optimizers.LAMB` computed it.

    For training with very large batches: the step of each variable is Adam's
    with weight decay, made as long as the variable is, times the learning rate
    (You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76
    minutes", ICLR 2020, https://arxiv.org/abs/1904.00962):

    .. math::

        u_t = \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}
            + \lambda \theta, \qquad
        \theta \leftarrow \theta - \eta_t \frac{\|\theta\|}{\|u_t\|} u_t

    Where a norm is 0, the quotient of norms is 1. The norms are those of whole
    variables, however they are split over devices.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.LAMB(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.9, 1.1]

    Args:
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the root of the second moment, at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-6.
        weight_decay: The part of a variable that is added to its step before that
            is made as long as the variable. A number or, as for
            ``learning_rate``, a schedule. Defaults to 0.
        exclude_from_weight_decay: A list of regular expressions. A variable does
            not decay if one is found in its path or its name. Defaults to None.
        exclude_from_layer_adaptation: The same for the quotient of norms. Without
            a list, that of ``exclude_from_weight_decay``. Defaults to None.
        name: Name of the optimizer. Defaults to ``"LAMB"``.
        **kwargs: The keywords below.

    Keywords:
        ``weight_decay_rate``
            Old name of ``weight_decay``.
        those of `RectifiedAdam`, with its defaults
            ``decay``, ``low_precision``, ``moments``, ``seed``, ``nonfinite``,
            ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    SPARSE_STEP = "dense"
    BY_NORM = True

    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)
    weight_decay = Hyperparameter(non_negative, schedulable=True)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-6,
        weight_decay: NumberOrSchedule = 0.0,
        exclude_from_weight_decay: Sequence[str] | None = None,
        exclude_from_layer_adaptation: Sequence[str] | None = None,
        name: str = "LAMB",
        **kwargs: Unpack[LAMBArguments],
    ):
        options: dict[str, Any] = {**kwargs}
        if weight_decay != 0.0 or "weight_decay_rate" not in options:
            options["weight_decay"] = weight_decay
        adapted = listed("exclude_from_layer_adaptation", exclude_from_layer_adaptation)
        adapted = adapted or listed("exclude_from_weight_decay", exclude_from_weight_decay)
        self.__dict__.update(_unadapted_names=adapted, _unadapted=exclusion_test(None, adapted))
        super().__init__(
            learning_rate,
            name,
            {
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": take_alias(
                    options, "weight_decay", old_name="weight_decay_rate", default=0.0
                ),
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            **options,
        )

    @property
    def exclude_from_layer_adaptation(self) -> list[str] | None:
        """The patterns of variables whose steps keep their length; fixed at construction."""
        found: list[str] | None = self.__dict__["_unadapted_names"]
        return found

    def steps_by_norm(self, variable: Any) -> bool:
        """Whether the step of a variable is made as long as the variable."""
        return not self.__dict__["_unadapted"](variable)

    def surplus_weights(self) -> int:
        """None: the original took no list of another length."""
        return 0

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """Those of Adam's step with a learning rate of 1, and the learning rate."""
        h = hyperparameters
        correction_1 = formulas.bias_correction(h["one_minus_beta_1"], step, xp)
        correction_2 = formulas.bias_correction(h["one_minus_beta_2"], step, xp)
        return StepScalars(
            one_minus_beta_1=h["one_minus_beta_1"],
            one_minus_beta_2=h["one_minus_beta_2"],
            gradient_weight=None,
            moment_weight=1.0 / correction_1,
            root_scale=1.0 / xp.sqrt(correction_2),
            epsilon=h["epsilon"],
            adaptive=True,
            shrink=h["weight_decay"],
            rate=self.scheduled_learning_rate(step, learning_rate, h, xp),
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {
            "exclude_from_layer_adaptation": self.exclude_from_layer_adaptation
        }


registration.register(LAMB, aliases=("Addons>LAMB", "LAMB"))
