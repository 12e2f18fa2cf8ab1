"""SGDW: stochastic gradient descent with a weight decay that the learning rate does not scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from surefoot.arguments import checks
from surefoot.arguments.checks import non_negative, proportion
from surefoot.arguments.signatures import Number, NumberOrSchedule, RuleArguments
from surefoot.base import registration
from surefoot.base.decay_lists import DecayLists
from surefoot.engines.contract import SparseStep
from surefoot.rule.update import Array, StepScalars
from surefoot.state.hyperparameters import Hyperparameter, MomentRate


class SGDWArguments(RuleArguments, total=False):
    """The keywords of `SGDW`."""

    exclude_from_weight_decay: Sequence[str] | None
    decay: Number


class SGDW(DecayLists):
    r"""SGDW, as `tfa.optimizers.SGDW` computed it.

    Gradient descent, with momentum as in TensorFlow if there is any, and with
    decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019, https://arxiv.org/abs/1711.05101):

    .. math::

        u_t = \mu u_{t-1} - \eta_t g_t, \qquad
        \theta \leftarrow \theta - \lambda_t \theta + u_t
        \quad\text{or, with ``nesterov``,}\quad + \mu u_t - \eta_t g_t

    `keras.optimizers.SGD` multiplies ``weight_decay`` by the learning rate, and
    this one does not: a weight decay of 1e-4 here is one of 0.1 there, if the
    learning rate is 0.001. If the learning rate follows a schedule, let
    ``weight_decay`` follow one, too.

    Example:
        >>> import numpy as np
        >>> import keras, surefoot
        >>> weight = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = surefoot.SGDW(weight_decay=0.25, learning_rate=0.125, momentum=0.5)
        >>> optimizer.apply([keras.ops.array([1.0, -2.0])], [weight])
        >>> [round(float(w), 4) for w in keras.ops.unstack(keras.ops.stop_gradient(weight.value))]
        [0.625, 1.0]

    Args:
        weight_decay: Each step multiplies a variable by ``1 - weight_decay``. A
            number, a schedule or, as for ``learning_rate``, its dictionary or a
            callable.
        learning_rate: A number, a `keras.optimizers.schedules.LearningRateSchedule`,
            the dictionary of a serialized one, or a callable without arguments.
            Schedules are evaluated at the number of updates done. Defaults to
            0.001.
        momentum: Share of a step that the next one repeats, in [0, 1]. If it is 0
            when the optimizer is made, none is kept, and it stays 0. Defaults to 0.
        nesterov: Whether a step looks ahead by its own momentum. Defaults to False.
        name: Name of the optimizer. Defaults to ``"SGDW"``.
        **kwargs: The keywords below.

    Keywords:
        ``exclude_from_weight_decay`` : default None
            A list of regular expressions. A variable does not decay if one is
            found in its path or its name. The argument ``decay_var_list`` of
            `apply_gradients` and `minimize` goes before it.
        ``decay`` : default 0
            The learning rate is divided by ``1 + decay * updates``.
        those of `RectifiedAdam`, with its defaults
            ``low_precision``, ``moments``, ``seed``, ``nonfinite``, ``shard_state``, ``lr``.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    A sparse gradient (TensorFlow's `tf.IndexedSlices`) changes only the rows that
    it has. As in the original, it decays their weights only if there is momentum.

    Raises:
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an argument is out of range, or two contradict.
    """

    SPARSE_STEP = "nothing"
    FIRST_MOMENT = "momentum"

    weight_decay = Hyperparameter(non_negative, schedulable=True)
    momentum = MomentRate(proportion, complement=True)

    def __init__(
        self,
        weight_decay: NumberOrSchedule,
        learning_rate: NumberOrSchedule = 0.001,
        momentum: Number = 0.0,
        nesterov: bool = False,
        name: str = "SGDW",
        **kwargs: Unpack[SGDWArguments],
    ):
        checks.check_flag("nesterov", nesterov)
        super().__init__(
            learning_rate,
            name,
            {
                "weight_decay": weight_decay,
                "momentum": momentum,
            },
            **kwargs,
        )
        self.__dict__.update(
            _nesterov=bool(nesterov), _moment_names=["momentum"] if self.momentum else []
        )

    @property
    def nesterov(self) -> bool:
        """Whether a step looks ahead by its own momentum; fixed at construction."""
        return bool(self.__dict__["_nesterov"])

    @property
    def moment_names(self) -> list[str]:
        """The momentum, if there is any."""
        return list(self.__dict__["_moment_names"])

    @property
    def sparse_step(self) -> SparseStep:
        """What a sparse gradient changes besides the rows that it has."""
        return "nothing" if self.keeps_first_moment else "undecayed"

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """The first moment is the last step, so it holds the learning rate and a sign."""
        h = hyperparameters
        rate = self.scheduled_learning_rate(step, learning_rate, h, xp)
        scalars = StepScalars(
            one_minus_beta_1=h["one_minus_momentum"],
            one_minus_beta_2=None,
            gradient_weight=None,
            moment_weight=rate,
            root_scale=None,
            epsilon=None,
            adaptive=False,
            shrink=h["weight_decay"],
        )
        if not self.keeps_first_moment:
            return scalars
        if not self.nesterov:
            return scalars._replace(moment_weight=-1.0, gradient_share=-rate)
        momentum = 1.0 - h["one_minus_momentum"]
        return scalars._replace(moment_weight=-momentum, gradient_share=-rate, gradient_weight=rate)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {"nesterov": self.nesterov}


registration.register(SGDW, aliases=("Addons>SGDW", "SGDW"))
