"""A slow float64 NumPy reference of every optimizer, written from the papers and the recordings.

It shares no formula with the package: each rule below is spelled out in the form its
source gives it (moving averages as weighted sums, bias corrections as powers, a plain
loop over variables), so that an algebra mistake in the package's folded rule shows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from reference_adam import SGD, Adam, RectifiedAdam
from reference_addons import LAMB, SGDW, AdaBelief, AdamW, LazyAdam, NovoGrad, Yogi
from reference_base import Gradient, Number, Reference, value_at
from reference_wrappers import SWA, Lookahead, MovingAverage, MultiOptimizer, cyclical

__all__ = [
    "LAMB",
    "SGD",
    "SGDW",
    "SWA",
    "AdaBelief",
    "Adam",
    "AdamW",
    "LazyAdam",
    "Lookahead",
    "MovingAverage",
    "MultiOptimizer",
    "Nadam",
    "NovoGrad",
    "RectifiedAdam",
    "Yogi",
    "around_rectified_adam",
    "cyclical",
    "exponential_decay",
    "ranger",
]


class Nadam(Adam):
    """Dozat 2016 with the momentum schedule mu_t = beta_1 (1 - 0.96^(schedule_decay t) / 2)."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        schedule_decay: float = 0.004,
        weight_decay: Number = 0.0,
        excluded: frozenset[int] = frozenset(),
        **shared: object,
    ) -> None:
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **shared)
        self.schedule_decay = schedule_decay
        self.weight_decay = weight_decay
        self.excluded = excluded
        self.momentum_cache = 1.0

    def momentum(self, t: int) -> float:
        """mu_t."""
        return self.beta_1 * (1 - 0.5 * 0.96 ** (self.schedule_decay * t))

    def _update(self, gradients: Sequence[Gradient]) -> bool:
        self.momentum_cache *= self.momentum(self.updates + 1)
        return super()._update(gradients)

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        parameter = self.parameters[i]
        now, following = self.momentum(t), self.momentum(t + 1)
        m = self._average_into("m", i, self.beta_1, gradient, touched)
        v = self._average_into("v", i, self.beta_2, gradient**2, touched)
        gradient_corrected = gradient / (1 - self.momentum_cache)
        m_corrected = m / (1 - self.momentum_cache * following)
        m_bar = (1 - now) * gradient_corrected + following * m_corrected
        rate = value_at(self.learning_rate, self.updates)
        change = m_bar / (np.sqrt(v / (1 - self.beta_2**t)) + self.epsilon)
        if i not in self.excluded:
            change = change + value_at(self.weight_decay, self.updates) * parameter
        parameter[touched] -= rate * change[touched]


_MOVING_AVERAGE = ("use_ema", "ema_momentum", "ema_overwrite_frequency")


def ranger(parameters: Sequence[np.ndarray], **options: object) -> Reference:
    """RectifiedAdam inside Lookahead; the moving average is of what leaves the latter."""
    return around_rectified_adam(Lookahead, parameters, **options)


def around_rectified_adam(
    wrapper: Callable[..., Reference], parameters: Sequence[np.ndarray], **options: object
) -> Reference:
    """A wrapper around RectifiedAdam: keywords of the wrapper are its own."""
    known = {*inspect.signature(wrapper).parameters, "nonfinite", *_MOVING_AVERAGE}
    outer = {k: v for k, v in options.items() if k in known}
    inner = {k: v for k, v in options.items() if k not in known}
    return wrapper(RectifiedAdam(parameters, **inner), **outer)  # type: ignore[arg-type]


def exponential_decay(initial: float, steps: float, rate: float) -> Callable[[int], float]:
    """The schedule the recordings use."""
    return lambda iterations: initial * rate ** (iterations / steps)
