"""Learning rates that rise and fall in cycles."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from surefoot.arguments import checks
from surefoot.arguments.signatures import Number
from surefoot.base import registration
from surefoot.rule.update import Array

SCALE_MODES = ("cycle", "iterations")


class CyclicalLearningRate(LearningRateSchedule):
    r"""A learning rate that rises and falls linearly, as `tfa.optimizers` computed it.

    In each cycle it rises from the initial to the maximal learning rate during
    ``step_size`` updates, and falls back during as many (Smith, "Cyclical Learning
    Rates for Training Neural Networks", WACV 2017, https://arxiv.org/abs/1506.01186).
    ``scale_fn`` multiplies the height of the triangle:

    .. math::

        c = \lfloor 1 + \tfrac{t}{2 s} \rfloor, \qquad
        \eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min})
        \max(0, 1 - |\tfrac{t}{s} - 2 c + 1|) \cdot \mathrm{scale}(c \text{ or } t)

    It computes in float32 and in the original's order of operations, so that it
    gives the same numbers.

    Example:
        >>> import surefoot
        >>> schedule = surefoot.CyclicalLearningRate(0.0, 1.0, 2, scale_fn=lambda c: 1 / c)
        >>> [float(schedule(step)) for step in range(7)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5]

    Args:
        initial_learning_rate: The smallest learning rate, at least 0.
        maximal_learning_rate: The largest learning rate, at least 0.
        step_size: Number of updates from the smallest to the largest, above 0.
        scale_fn: A function of the number of the cycle, from 1, or of the number
            of updates done, as a float32 tensor. To be saved, it must be registered
            with `keras.saving.register_keras_serializable`.
        scale_mode: ``"cycle"`` or ``"iterations"``: the argument of ``scale_fn``.
            Defaults to ``"cycle"``.
        name: Name of the schedule. Defaults to ``"CyclicalLearningRate"``.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        maximal_learning_rate: Number,
        step_size: Number,
        scale_fn: Callable[[Any], Any],
        scale_mode: str = "cycle",
        name: str = "CyclicalLearningRate",
    ):
        super().__init__()
        checks.check_name(name)
        if not callable(scale_fn):
            raise TypeError(
                f"`scale_fn` must be a function of one argument. Received: scale_fn={scale_fn!r}"
            )
        self.initial_learning_rate = checks.non_negative(
            "initial_learning_rate", initial_learning_rate
        )
        self.maximal_learning_rate = checks.non_negative(
            "maximal_learning_rate", maximal_learning_rate
        )
        self.step_size = checks.positive("step_size", step_size)
        self.scale_fn = scale_fn
        self.scale_mode = checks.choice("scale_mode", scale_mode, SCALE_MODES)
        self.name = name

    def __call__(self, step: Any) -> Array:
        """The learning rate after ``step`` updates."""
        ops = keras.ops
        step = ops.cast(step, "float32")
        cycle = ops.floor(1 + step / (2 * self.step_size))
        distance = ops.absolute(step / self.step_size - 2 * cycle + 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else step)
        ends = self.maximal_learning_rate, self.initial_learning_rate
        span = float(np.subtract(*ends, dtype="float32"))
        return self.initial_learning_rate + span * ops.maximum(0.0, 1 - distance) * scale

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return self._common_config() | {"scale_fn": self.scale_fn}

    def _common_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "maximal_learning_rate": self.maximal_learning_rate,
            "step_size": self.step_size,
            "scale_mode": self.scale_mode,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Create a schedule from a config: ours, or TensorFlow Addons'.

        Args:
            config: What `get_config` returned, or what became of it in a file.

        Returns:
            A schedule of this class.

        Raises:
            TypeError: If the config has an unknown entry, or its function is not known.
            ValueError: If an entry is out of range.
        """
        config = dict(config)
        if isinstance(config.get("scale_fn"), Mapping | str):
            config["scale_fn"] = keras.saving.deserialize_keras_object(config["scale_fn"])
        return cls(**config)


class TriangularCyclicalLearningRate(CyclicalLearningRate):
    """A `CyclicalLearningRate` whose cycles all have the same height.

    Example:
        >>> import surefoot
        >>> schedule = surefoot.TriangularCyclicalLearningRate(0.0, 1.0, step_size=2)
        >>> [float(schedule(step)) for step in range(7)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0]

    Args:
        initial_learning_rate: The smallest learning rate, at least 0.
        maximal_learning_rate: The largest learning rate, at least 0.
        step_size: Number of updates from the smallest to the largest, above 0.
        scale_mode: Has no effect; it is accepted as in the original. Defaults to ``"cycle"``.
        name: Name of the schedule. Defaults to ``"TriangularCyclicalLearningRate"``.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        maximal_learning_rate: Number,
        step_size: Number,
        scale_mode: str = "cycle",
        name: str = "TriangularCyclicalLearningRate",
    ):
        super().__init__(
            initial_learning_rate, maximal_learning_rate, step_size, _same, scale_mode, name
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return self._common_config()


class Triangular2CyclicalLearningRate(CyclicalLearningRate):
    """A `CyclicalLearningRate` whose height is halved after each cycle.

    Example:
        >>> import surefoot
        >>> schedule = surefoot.Triangular2CyclicalLearningRate(0.0, 1.0, step_size=2)
        >>> [float(schedule(step)) for step in range(7)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5]

    Args:
        initial_learning_rate: The smallest learning rate, at least 0.
        maximal_learning_rate: The largest learning rate of the first cycle, at least 0.
        step_size: Number of updates from the smallest to the largest, above 0.
        scale_mode: ``"cycle"`` or ``"iterations"``: whether the height is halved after
            each cycle or after each update. Defaults to ``"cycle"``.
        name: Name of the schedule. Defaults to ``"Triangular2CyclicalLearningRate"``.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        maximal_learning_rate: Number,
        step_size: Number,
        scale_mode: str = "cycle",
        name: str = "Triangular2CyclicalLearningRate",
    ):
        super().__init__(
            initial_learning_rate, maximal_learning_rate, step_size, _halved, scale_mode, name
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return self._common_config()


class ExponentialCyclicalLearningRate(CyclicalLearningRate):
    """A `CyclicalLearningRate` whose height is multiplied by a power of ``gamma``.

    Example:
        >>> import surefoot
        >>> schedule = surefoot.ExponentialCyclicalLearningRate(0.0, 1.0, step_size=2, gamma=0.5)
        >>> [float(schedule(step)) for step in range(7)]
        [0.0, 0.25, 0.25, 0.0625, 0.0, 0.015625, 0.015625]

    Args:
        initial_learning_rate: The smallest learning rate, at least 0.
        maximal_learning_rate: The largest learning rate, at least 0.
        step_size: Number of updates from the smallest to the largest, above 0.
        scale_mode: ``"cycle"`` or ``"iterations"``: the exponent of ``gamma``.
            Defaults to ``"iterations"``.
        gamma: The base of the power, at least 0. Defaults to 1.
        name: Name of the schedule. Defaults to ``"ExponentialCyclicalLearningRate"``.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        initial_learning_rate: Number,
        maximal_learning_rate: Number,
        step_size: Number,
        scale_mode: str = "iterations",
        gamma: Number = 1.0,
        name: str = "ExponentialCyclicalLearningRate",
    ):
        self.gamma = checks.non_negative("gamma", gamma)
        super().__init__(
            initial_learning_rate,
            maximal_learning_rate,
            step_size,
            functools.partial(pow, self.gamma),
            scale_mode,
            name,
        )

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return self._common_config() | {"gamma": self.gamma}


def _same(cycle: Array) -> float:
    del cycle
    return 1.0


def _halved(cycle: Array) -> Array:
    return 1 / (2.0 ** (cycle - 1))


for _schedule in (
    CyclicalLearningRate,
    TriangularCyclicalLearningRate,
    Triangular2CyclicalLearningRate,
    ExponentialCyclicalLearningRate,
):
    registration.register(_schedule, aliases=(f"Addons>{_schedule.__name__}", _schedule.__name__))
