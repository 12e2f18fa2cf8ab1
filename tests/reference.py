"""A slow float64 NumPy reference of every optimizer, written from the papers and the recordings.

It shares no formula with the package: each rule below is spelled out in the form its
source gives it (moving averages as weighted sums, bias corrections as powers, a plain
loop over variables), so that an algebra mistake in the package's folded rule shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference_adam import SGD, Adam, RectifiedAdam
from reference_addons import LAMB, SGDW, AdaBelief, AdamW, LazyAdam, NovoGrad, Yogi
from reference_base import Gradient, Number, Reference, value_at

__all__ = [
    "LAMB",
    "SGD",
    "SGDW",
    "AdaBelief",
    "Adam",
    "AdamW",
    "LazyAdam",
    "Lookahead",
    "Nadam",
    "NovoGrad",
    "RectifiedAdam",
    "Yogi",
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


class Lookahead(Reference):
    """Zhang et al. 2019, algorithm 1: k fast steps, then the slow weights move by alpha."""

    slots = ("slow",)

    def __init__(
        self,
        inner: Reference,
        sync_period: int = 6,
        slow_step_size: float = 0.5,
        **shared: object,
    ) -> None:
        super().__init__(inner.parameters, **shared)  # type: ignore[arg-type]
        self.parameters = inner.parameters
        self.inner = inner
        self.sync_period = sync_period
        self.slow_step_size = slow_step_size

    def _update(self, gradients: Sequence[Gradient]) -> bool:
        pairs = list(zip(self.slot["slow"], self.parameters, strict=True))
        if self.updates == 0:
            for slow, fast in pairs:
                slow[...] = fast
        if not self.inner.apply(gradients):
            return False
        if (self.updates + 1) % self.sync_period == 0:
            for (slow, fast), gradient in zip(pairs, gradients, strict=True):
                if gradient is not None:
                    slow[...] = slow + self.slow_step_size * (fast - slow)
                    fast[...] = slow
        return True


_MOVING_AVERAGE = ("use_ema", "ema_momentum", "ema_overwrite_frequency")


def ranger(
    parameters: Sequence[np.ndarray],
    sync_period: int = 6,
    slow_step_size: float = 0.5,
    **rectified_adam: object,
) -> Lookahead:
    """RectifiedAdam inside Lookahead; the moving average is of what leaves the latter."""
    outer = {k: v for k, v in rectified_adam.items() if k in ("nonfinite", *_MOVING_AVERAGE)}
    inner = {k: v for k, v in rectified_adam.items() if k not in outer}
    return Lookahead(
        RectifiedAdam(parameters, **inner),  # type: ignore[arg-type]
        sync_period,
        slow_step_size,
        **outer,
    )


def exponential_decay(initial: float, steps: float, rate: float) -> Callable[[int], float]:
    """The schedule the recordings use."""
    return lambda iterations: initial * rate ** (iterations / steps)
