"""MovingAverage: an exponential average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from surefoot import engines
from surefoot.arguments import checks
from surefoot.arguments.checks import proportion, whole_number
from surefoot.arguments.signatures import KerasArguments, Number
from surefoot.base import registration
from surefoot.base.averaging import AveragingOptimizer
from surefoot.rule.update import Array
from surefoot.state.hyperparameters import Hyperparameter
from surefoot.state.named_state import as_array


class MovingAverageArguments(KerasArguments, total=False):
    """The keywords of `MovingAverage`."""


class MovingAverage(AveragingOptimizer):
    r"""An average of the weights around any optimizer, as `tfa.optimizers.MovingAverage` has it.

    The inner optimizer moves the weights :math:`\theta`, and after each update
    their average :math:`a`, which begins at their first values, follows:

    .. math::

        a \leftarrow a + (1 - \text{decay}) (\theta - a)

    The training is that of the inner optimizer. To evaluate or to save with the
    averages, call `assign_average_vars` or `swap_weights`, or use
    `surefoot.callbacks.AverageModelCheckpoint`.

    Example:
        >>> import keras, surefoot
        >>> weight = keras.Variable(3.0)
        >>> optimizer = surefoot.MovingAverage(keras.optimizers.SGD(1.0), average_decay=0.5)
        >>> for _ in range(2):  # 3 -> 2 -> 1
        ...     optimizer.apply([keras.ops.array(1.0)], [weight])
        >>> float(keras.ops.stop_gradient(optimizer.get_slot(weight, "average").value))
        1.75

    Args:
        optimizer: The inner optimizer: an object, a name that
            `keras.optimizers.get` knows, or a config.
        average_decay: The part of the average that is kept in an update, in
            [0, 1]. Defaults to 0.99.
        num_updates: A number of updates done elsewhere; it limits ``average_decay`` to
            ``(1 + num_updates) / (10 + num_updates)``. Defaults to None, no limit.
        start_step: The number of updates before which the average is equal to
            the weights. Defaults to 0.
        dynamic_decay: Whether the decay rises from 0.1 to ``average_decay``: it is at
            most ``(1 + t) / (10 + t)`` after ``t`` updates since ``start_step``. Defaults to
            False.
        name: Name of the optimizer. Defaults to ``"MovingAverage"``.
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

    average_decay = Hyperparameter(proportion, complement=True)
    start_step = Hyperparameter(whole_number, whole=True)

    def __init__(
        self,
        optimizer: Any,
        average_decay: Number = 0.99,
        num_updates: Number | None = None,
        start_step: Number = 0,
        dynamic_decay: bool = False,
        name: str = "MovingAverage",
        **kwargs: Unpack[MovingAverageArguments],
    ):
        dynamic_decay = checks.check_flag("dynamic_decay", dynamic_decay)
        if num_updates is not None:
            num_updates = int(whole_number("num_updates", num_updates))
            # In float32, as the original computes it and has it in its config.
            limit = float(np.float32((1 + num_updates) / (10 + num_updates)))
            average_decay = min(proportion("average_decay", average_decay), limit)
        given = {"average_decay": average_decay, "start_step": start_step}
        super().__init__(optimizer, name, given, {**kwargs})
        self._num_updates = num_updates
        self._dynamic_decay = dynamic_decay

    @property
    def num_updates(self) -> int | None:
        """The number that has limited ``average_decay``; fixed at construction."""
        return self._num_updates

    @property
    def dynamic_decay(self) -> bool:
        """Whether the decay rises from 0.1; fixed at construction."""
        return self._dynamic_decay

    def shadow_numbers(
        self, iterations: Any, hyperparameters: dict[str, Array], xp: Any
    ) -> Sequence[Array]:
        """Always; ``1 - decay``."""
        engine = engines.active()
        count = engine.scalar(iterations)
        done = count - hyperparameters["start_step"]
        weight = hyperparameters["one_minus_average_decay"]
        if self._dynamic_decay:
            weight = xp.maximum(weight, 9.0 / (10.0 + xp.maximum(done, 0.0)))
        return count >= 0.0, xp.where(done < 0.0, 1.0, weight)

    def has_average(self, average: np.ndarray) -> bool:
        """After the first update."""
        del average
        return bool(as_array(self._iterations) > 0)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        return super().get_config() | {
            "num_updates": self.num_updates,
            "dynamic_decay": self.dynamic_decay,
        }


registration.register(MovingAverage, aliases=("Addons>MovingAverage", "MovingAverage"))
