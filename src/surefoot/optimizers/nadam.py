"""Nadam: Adam with Nesterov momentum."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from surefoot import engines
from surefoot.arguments import keywords
from surefoot.arguments.checks import decay_rate, epsilon_or_default, non_negative
from surefoot.arguments.signatures import MomentArguments, Number, NumberOrSchedule
from surefoot.base import registration
from surefoot.base.moment_optimizer import MomentOptimizer
from surefoot.legacy_api.weight_lists import WeightEntry
from surefoot.rule import formulas
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter


class NadamArguments(MomentArguments, total=False):
    """The keywords of `Nadam`, whose ``decay`` is the old name of ``schedule_decay``."""

    schedule_decay: Number
    decay: Number
    weight_decay: NumberOrSchedule | None


class Nadam(MomentOptimizer):
    r"""Nadam, as `tf.keras.optimizers.Nadam` of TensorFlow 2.0 to 2.10 computed it.

    Adam with Nesterov's look ahead in the numerator and Dozat's warming
    momentum (Dozat, "Incorporating Nesterov Momentum into Adam", 2016):

    .. math::

        \mu_t = \beta_1 (1 - \tfrac12 0.96^{\,t \cdot \text{schedule\_decay}}), \qquad
        \theta \leftarrow \theta - \frac{\eta}{\sqrt{\hat v_t} + \epsilon}
        \Big( \frac{1-\mu_t}{1-\prod_{i \le t} \mu_i} g_t
            + \frac{\mu_{t+1}}{1-\prod_{i \le t+1} \mu_i} m_t \Big)

    `keras.optimizers.Nadam` of Keras 3 leaves out ``schedule_decay`` (as if it
    were 1): its momentum is at 0.900 at step 1000, this one's and PyTorch's at
    0.518.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.Nadam(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.8944, 1.1056]

    Args:
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        beta_1: Decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the root of the second moment, at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-7.
        name: Name of the optimizer. Defaults to ``"Nadam"``.
        **kwargs: The keywords below.

    Keywords:
        ``schedule_decay`` : default 0.004
            How fast the momentum warms up, at least 0.
        ``decay``
            Name of ``schedule_decay`` in the original's config. It does not decay
            the learning rate.
        ``weight_decay`` : default 0
            Decoupled weight decay (NadamW); each step multiplies a variable by
            ``1 - learning_rate * weight_decay``. A number or a schedule.
        those of `RectifiedAdam`, with its defaults
            ``low_precision``, ``moments``, ``seed``, ``lazy``, ``nonfinite``,
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
    schedule_decay = Hyperparameter(non_negative)
    weight_decay = Hyperparameter(non_negative, schedulable=True)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-07,
        name: str = "Nadam",
        **kwargs: Unpack[NadamArguments],
    ):
        options: dict[str, Any] = {**kwargs}
        weight_decay = options.pop("weight_decay", 0.0)
        super().__init__(
            learning_rate,
            name,
            {
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "schedule_decay": keywords.take_alias(
                    options, "schedule_decay", old_name="decay", default=0.004
                ),
                "weight_decay": 0.0 if weight_decay is None else weight_decay,
            },
            **options,
        )
        self._momentum_cache = self.add_variable(
            (), initializer="ones", dtype=engines.active().scalar_dtype(), name="momentum_cache"
        )
        # What rounding took from the product so far. Only float32 needs it:
        # there, a thousand momenta near one lose the fifth digit of 1 - product.
        self._momentum_cache_residual = (
            self.add_variable((), dtype="float32", name="momentum_cache_residual")
            if engines.active().scalar_dtype() == "float32"
            else None
        )

    @property
    def decay(self) -> float:
        """The original's name of ``schedule_decay``."""
        value: float = self.schedule_decay
        return value

    @decay.setter
    def decay(self, value: Any) -> None:
        self.schedule_decay = value

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """See `nadam_scalars`; advances the product of the momenta."""
        engine = engines.active()
        scalar = engine.scalar
        residual = self._momentum_cache_residual
        step_scalars, product = nadam_scalars(
            step,
            learning_rate,
            hyperparameters,
            MomentumProduct(
                scalar(self._momentum_cache), None if residual is None else scalar(residual)
            ),
            xp,
        )
        engine.assign_scalar(self._momentum_cache, product.value)
        if residual is not None:
            engine.assign_scalar(residual, product.residual)
        return step_scalars

    def leading_weights(self) -> list[Any]:
        """The momentum cache, which the original kept right after the iterations."""
        return [self._momentum_cache]

    def leading_weight_entries(self) -> list[WeightEntry]:
        """The momentum cache with its residual, as one exact number.

        Raises:
            ValueError: By an entry's check, if a product of momenta is not in the range [0, 1].
        """
        cache, residual = self._momentum_cache, self._momentum_cache_residual

        def read() -> Any:
            value = WeightEntry.of("momentum_cache", cache).read()
            if residual is None:
                return value
            # In float64 the sum is exact, and `write` splits it as it was.
            return value.astype("float64") + WeightEntry.of("residual", residual).read()

        def write(value: Any) -> None:
            cache.assign(value.astype(cache.dtype))
            if residual is not None:
                rest = value.astype("float64") - value.astype("float32").astype("float64")
                residual.assign(rest.astype("float32"))

        def check(value: Any) -> None:
            if not 0.0 <= WeightEntry.of("momentum_cache", cache).check(value) <= 1.0:
                raise ValueError(f"must be in the range [0, 1]. Received: {value}")

        return [WeightEntry("momentum_cache", (), read, write, check)]

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``decay`` is for the original's."""
        config = super().get_config()
        return config | {"decay": config["schedule_decay"]}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create a Nadam from a config: ours, or tf.keras 2's.

        tf.keras 2 wrote its ``schedule_decay`` as ``decay`` but did not read it
        back; here it is read.
        """
        config = dict(config)
        if "schedule_decay" in config:
            config.pop("decay", None)
        return super().from_config(config, custom_objects)


class MomentumProduct(NamedTuple):
    """The product of all momenta so far.

    Attributes:
        value: The rounded product.
        residual: The exact product minus ``value``; None where float64 makes
            it unnecessary.
    """

    value: Array
    residual: Array | None = None

    def times_complement_of(self, complement: Array) -> MomentumProduct:
        """Multiply by ``1 - complement``."""
        change = self.value * complement
        value = self.value - change
        if self.residual is None:
            return MomentumProduct(value)
        rest = ((self.value - value) - change) + self.residual * (1.0 - complement)
        total = value + rest
        return MomentumProduct(total, rest - (total - value))

    def complement(self) -> Array:
        """``1 - product``."""
        difference = 1.0 - self.value
        return difference if self.residual is None else difference - self.residual


def nadam_scalars(
    step: Array,
    learning_rate: Array,
    hyperparameters: dict[str, Array],
    product: MomentumProduct,
    xp: Any,
) -> tuple[StepScalars, MomentumProduct]:
    """The scalars of Nadam's update number ``step``.

    Args:
        step: Number of the update, from 1; a float scalar.
        learning_rate: The learning rate of this update.
        hyperparameters: By name, the betas as ``one_minus_beta_1`` and
            ``one_minus_beta_2``.
        product: The product of the momenta of all updates before.
        xp: Array namespace, NumPy or `keras.ops`.

    Returns:
        `StepScalars`, and the product with this update's momentum in it.
    """
    h = hyperparameters

    def momentum(at_step: Array) -> formulas.Momentum:
        return formulas.nesterov_momentum(h["one_minus_beta_1"], h["schedule_decay"], at_step, xp)

    now, following = momentum(step), momentum(step + 1.0)
    product = product.times_complement_of(now.complement)
    next_product = product.times_complement_of(following.complement)
    correction_2 = formulas.bias_correction(h["one_minus_beta_2"], step, xp)
    step_scalars = StepScalars(
        one_minus_beta_1=h["one_minus_beta_1"],
        one_minus_beta_2=h["one_minus_beta_2"],
        gradient_weight=learning_rate * now.complement / product.complement(),
        moment_weight=learning_rate * following.mu / next_product.complement(),
        root_scale=1.0 / xp.sqrt(correction_2),
        epsilon=h["epsilon"],
        adaptive=True,
        shrink=learning_rate * h["weight_decay"],
    )
    return step_scalars, product


registration.register(Nadam)
