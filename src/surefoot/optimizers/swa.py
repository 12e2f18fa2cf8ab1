"""SWA: the mean of the weights at the ends of periods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from surefoot import engines
from surefoot.arguments.checks import positive_whole_number, whole_number
from surefoot.arguments.signatures import KerasArguments, Number
from surefoot.base import registration
from surefoot.base.averaging import AveragingOptimizer
from surefoot.rule.update import Array
from surefoot.state.hyperparameters import Hyperparameter


class SWAArguments(KerasArguments, total=False):
    """The keywords of `SWA`."""


class SWA(AveragingOptimizer):
    r"""Stochastic weight averaging around any optimizer, as `tfa.optimizers.SWA` computed it.

    The inner optimizer moves the weights :math:`\theta`. After update number
    ``start_averaging + 1``, and then after every ``average_period`` updates, they
    are taken into the mean :math:`a` of all that were taken so far (Izmailov et al.,
    "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
    https://arxiv.org/abs/1803.05407):

    .. math::

        a \leftarrow a + \tfrac{1}{n + 1} (\theta - a)

    The training is that of the inner optimizer. To evaluate or to save with the
    averages, call `assign_average_vars` or `swap_weights`, or use
    `surefoot.callbacks.AverageModelCheckpoint`. A model with batch normalization
    then needs a pass over the data that renews its statistics.

    Example:
        >>> import keras, surefoot
        >>> weight = keras.Variable(3.0)
        >>> optimizer = surefoot.SWA(keras.optimizers.SGD(1.0), average_period=2)
        >>> for _ in range(3):  # 3 -> 2 -> 1 -> 0; the mean is of 2 and 0
        ...     optimizer.apply([keras.ops.array(1.0)], [weight])
        >>> optimizer.assign_average_vars([weight])
        >>> float(keras.ops.stop_gradient(weight.value))
        1.0

    Args:
        optimizer: The inner optimizer: an object, a name that
            `keras.optimizers.get` knows, or a config.
        start_averaging: The number of updates before the first one whose weights
            are taken. Defaults to 0.
        average_period: The number of updates from one to the next whose weights
            are taken, at least 1. Defaults to 10.
        name: Name of the optimizer. Defaults to ``"SWA"``.
        **kwargs: The keywords below.

    Keywords:
        ``nonfinite`` : default ``"propagate"``
            What a NaN or infinite gradient does, see `RectifiedAdam`.
        ``shard_state`` : default False
            Split the averages over the devices, see `RectifiedAdam`.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``. They
            are applied before the inner optimizer gets the gradients.

    Raises:
        TypeError: If ``optimizer`` is no optimizer, or an argument is unknown or of a
            wrong kind.
        ValueError: If an argument is out of range, or belongs to the inner
            optimizer.
    """

    start_averaging = Hyperparameter(whole_number, whole=True)
    average_period = Hyperparameter(positive_whole_number, whole=True)

    # The original's average is zero until it begins. Of the two zeros, no mean of weights is the
    # negative one in all its elements, so that it tells which averages have begun: a weight
    # without a gradient has none when others have.
    SHADOW_STARTS = -0.0

    def __init__(
        self,
        optimizer: Any,
        start_averaging: Number = 0,
        average_period: Number = 10,
        name: str = "SWA",
        **kwargs: Unpack[SWAArguments],
    ):
        given = {"start_averaging": start_averaging, "average_period": average_period}
        super().__init__(optimizer, name, given, {**kwargs})

    @property
    def period(self) -> int:
        """``average_period``, as an int."""
        return int(self.average_period)

    def shadow_numbers(
        self, iterations: Any, hyperparameters: dict[str, Array], xp: Any
    ) -> Sequence[Array]:
        """Whether weights are taken after this update; their part in the mean."""
        engine = engines.active()
        start, period = hyperparameters["start_averaging"], hyperparameters["average_period"]
        count = engine.whole_number(iterations) - engine.whole_number(start)
        due = (count % engine.whole_number(period) == 0) & (count >= 0)
        done = xp.maximum(engine.scalar(iterations) - start, 0.0)
        return due, period / (done + period)

    def has_average(self, average: np.ndarray) -> bool:
        """Unless all of it is negative zero."""
        return bool(average.any() or not np.signbit(average).all())


registration.register(SWA, aliases=("Addons>SWA", "SWA"))
