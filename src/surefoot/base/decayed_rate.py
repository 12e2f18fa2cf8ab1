"""The `decay` argument that every optimizer of 2020 had."""

from __future__ import annotations

from typing import Any

from surefoot.arguments.checks import non_negative
from surefoot.base.moment_optimizer import MomentOptimizer
from surefoot.rule import formulas
from surefoot.rule.update import Array
from surefoot.state.hyperparameters import Hyperparameter


class DecayedRate(MomentOptimizer):
    """A `MomentOptimizer` whose learning rate is divided by ``1 + decay * updates``.

    Args:
        learning_rate: See `MomentOptimizer`.
        name: See `MomentOptimizer`.
        hyperparameters: See `MomentOptimizer`; without ``decay``.
        **kwargs: ``decay``, by default 0; and those of `MomentOptimizer`.
    """

    decay = Hyperparameter(non_negative)

    def __init__(
        self, learning_rate: Any, name: str, hyperparameters: dict[str, Any], **kwargs: Any
    ) -> None:
        decay = kwargs.pop("decay", 0.0)
        super().__init__(learning_rate, name, hyperparameters | {"decay": decay}, **kwargs)

    def scheduled_learning_rate(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> Array:
        """The learning rate after ``decay``."""
        del xp
        return formulas.inverse_time_decay(learning_rate, hyperparameters["decay"], step)
