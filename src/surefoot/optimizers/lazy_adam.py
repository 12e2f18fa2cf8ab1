"""LazyAdam: Adam that leaves rows without a gradient alone."""

from __future__ import annotations

from typing import Any, Unpack

from surefoot.arguments import checks
from surefoot.arguments.checks import decay_rate, epsilon_or_default
from surefoot.arguments.signatures import Number, NumberOrSchedule, RuleArguments
from surefoot.base import registration
from surefoot.base.decayed_rate import DecayedRate
from surefoot.optimizers.adamw import adam_scalars
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter


class LazyAdamArguments(RuleArguments, total=False):
    """The keywords of `LazyAdam`."""

    decay: Number


class LazyAdam(DecayedRate):
    """LazyAdam, as `tfa.optimizers.LazyAdam` computed it.

    Adam as in TensorFlow (Kingma & Ba, "Adam: A Method for Stochastic
    Optimization", ICLR 2015, https://arxiv.org/abs/1412.6980), except that a sparse
    gradient (TensorFlow's `tf.IndexedSlices`) changes the weights and moments of
    its own rows only. On JAX and PyTorch Keras's embeddings have dense gradients,
    and this is Adam.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.LazyAdam(learning_rate=0.1)
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
        epsilon: Added to the root of the second moment as it is kept ("epsilon
            hat" in the paper of Adam), at least 0; None means
            `keras.config.epsilon()`. Defaults to 1e-7.
        amsgrad: Must be False. The original took True, and used it for dense
            gradients only. Defaults to False.
        name: Name of the optimizer. Defaults to ``"LazyAdam"``.
        **kwargs: The keywords below.

    Keywords:
        those of `RectifiedAdam`, with its defaults
            ``decay``, ``low_precision``, ``moments``, ``seed``, ``nonfinite``,
            ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``. Not ``gradient_accumulation_steps``: sums of
            gradients are dense.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    SPARSE_STEP = "nothing"

    beta_1 = Hyperparameter(decay_rate, complement=True)
    beta_2 = Hyperparameter(decay_rate, complement=True)
    epsilon = Hyperparameter(epsilon_or_default)

    def __init__(
        self,
        learning_rate: NumberOrSchedule = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-07,
        amsgrad: bool = False,
        name: str = "LazyAdam",
        **kwargs: Unpack[LazyAdamArguments],
    ):
        if checks.check_flag("amsgrad", amsgrad):
            raise ValueError(
                "LazyAdam has no `amsgrad`; `surefoot.AdamW(0.0, lazy=True, amsgrad=True)` on "
                "TensorFlow is LazyAdam with it. Received: amsgrad=True"
            )
        steps = kwargs.get("gradient_accumulation_steps")
        if steps:
            raise ValueError(
                "LazyAdam accumulates no gradients, whose sums are dense. "
                f"Received: gradient_accumulation_steps={steps!r}"
            )
        super().__init__(
            learning_rate,
            name,
            {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon},
            **kwargs,
        )

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """See `adam_scalars`."""
        rate = self.scheduled_learning_rate(step, learning_rate, hyperparameters, xp)
        return adam_scalars(step, rate, hyperparameters, xp)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {"amsgrad": self.amsgrad}


registration.register(LazyAdam, aliases=("Addons>LazyAdam", "LazyAdam"))
