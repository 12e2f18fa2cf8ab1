"""Yogi: Adam whose second moment changes by no more than the new squared gradient."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import keras

from surefoot.arguments import checks
from surefoot.arguments.checks import decay_rate, non_negative
from surefoot.arguments.signatures import MomentArguments, Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.base.decayed_rate import DecayedRate
from surefoot.optimizers.adamw import adam_scalars
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter, MomentRate

ACTIVATIONS = ("sign", "tanh")


class YogiArguments(MomentArguments, total=False):
    """The keywords of `Yogi`."""

    decay: Number


class Yogi(DecayedRate):
    r"""Yogi, as `tfa.optimizers.Yogi` computed it.

    Adam's second moment forgets large gradients within some steps, and learning
    rates then rise at once. Yogi's (Zaheer et al., "Adaptive Methods for
    Nonconvex Optimization", NeurIPS 2018) changes by the new square only:

    .. math::

        v_t = v_{t-1} + (1 - \beta_2) \operatorname{sign}(g_t^2 - v_{t-1}) \, g_t^2

    A proximal step for the strengths of L1 and L2 regularization may follow.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.Yogi(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.9031, 1.0984]

    Args:
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.01.
        beta1: Decay rate of the first moment, in [0, 1), the attribute ``beta_1``.
            If it is 0 when the optimizer is made, none is kept, and it stays 0.
            Defaults to 0.9.
        beta2: Decay rate of the second moment, in [0, 1), the attribute
            ``beta_2``. Defaults to 0.999.
        epsilon: Added to the root of the second moment, at least 0. Defaults to
            0.001.
        l1_regularization_strength: Draws weights to zero by a constant length, at
            least 0. Defaults to 0.
        l2_regularization_strength: Draws weights to zero by a share of them, at
            least 0. Defaults to 0.
        initial_accumulator_value: The second moment at the start, at least 0.
            Defaults to 1e-6.
        activation: ``"sign"`` as in the paper, or ``"tanh"``, which takes the
            hyperbolic tangent of ten times the difference in its place.
            Defaults to ``"sign"``.
        name: Name of the optimizer. Defaults to ``"Yogi"``.
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

    beta_1 = MomentRate(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(non_negative)
    l1_regularization_strength = Hyperparameter(non_negative)
    l2_regularization_strength = Hyperparameter(non_negative)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.01,
        beta1: Number = 0.9,
        beta2: Number = 0.999,
        epsilon: Number = 1e-3,
        l1_regularization_strength: Number = 0.0,
        l2_regularization_strength: Number = 0.0,
        initial_accumulator_value: Number = 1e-6,
        activation: Literal["sign", "tanh"] = "sign",
        name: str = "Yogi",
        **kwargs: Unpack[YogiArguments],
    ):
        start = non_negative("initial_accumulator_value", initial_accumulator_value)
        checks.choice("activation", activation, ACTIVATIONS)
        super().__init__(
            learning_rate,
            name,
            {
                "beta_1": decay_rate("beta1", beta1),
                "beta_2": decay_rate("beta2", beta2),
                "epsilon": epsilon,
                "l1_regularization_strength": l1_regularization_strength,
                "l2_regularization_strength": l2_regularization_strength,
            },
            **kwargs,
        )
        self.__dict__.update(
            _activation=activation,
            _initial_accumulator_value=start,
            _moment_names=["v", "m"] if self.beta_1 else ["v"],
        )
        self.slots.by_variable = True

    @property
    def activation(self) -> str:
        """What the second moment moves by, "sign" or "tanh"; fixed at construction."""
        return str(self.__dict__["_activation"])

    @property
    def initial_accumulator_value(self) -> float:
        """The second moment at the start; fixed at construction."""
        return float(self.__dict__["_initial_accumulator_value"])

    @property
    def moment_names(self) -> list[str]:
        """The slots of the rule, in the original's order."""
        return list(self.__dict__["_moment_names"])

    def surplus_weights(self) -> int:
        """None: the original took no list of another length."""
        return 0

    def add_moment(self, variable: Any, slot_name: str, dtype: str) -> None:
        """Add a slot; the second moment starts at ``initial_accumulator_value``."""
        start = self.initial_accumulator_value if slot_name == "v" else 0.0
        initializer = keras.initializers.Constant(start)
        self.add_variable_from_reference(variable, slot_name, initializer, dtype=dtype)

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """Those of Adam, with another weight of the new square, and of the proximal step."""
        h = hyperparameters
        rate = self.scheduled_learning_rate(step, learning_rate, h, xp)
        weight = f"{self.activation}_weight"
        return adam_scalars(step, rate, h, xp)._replace(
            one_minus_beta_2=None,
            l1=h["l1_regularization_strength"],
            l2=h["l2_regularization_strength"],
            **{weight: h["one_minus_beta_2"]},
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        config = super().get_config()
        return config | {
            "beta1": config.pop("beta_1"),
            "beta2": config.pop("beta_2"),
            "activation": self.activation,
            "initial_accumulator_value": self.initial_accumulator_value,
        }


registration.register(Yogi, aliases=("Addons>Yogi", "Yogi"))
