"""A slow float64 NumPy reference of every optimizer, written from the papers and the recordings.

It shares no formula with the package: each rule below is spelled out in the form its
source gives it (moving averages as weighted sums, bias corrections as powers, a plain
loop over variables), so that an algebra mistake in the package's folded rule shows.

A reference optimizer holds its parameters. ``apply(gradients)`` does what one call of
``apply_gradients`` does; hyperparameters are plain attributes, written at any time. A
number that may be a schedule is either a float or a function of ``iterations``, the
count of updates already made. Gradients are arrays, ``Rows`` or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Number = float | Callable[[int], float]


class Rows(NamedTuple):
    """Gradient of some rows of a table; an index may stand more than once."""

    indices: np.ndarray
    values: np.ndarray


Gradient = np.ndarray | Rows | None


def value_at(number: Number, iterations: int) -> float:
    """``number`` itself, or what the schedule says after ``iterations`` updates."""
    return float(number(iterations) if callable(number) else number)


def summed(gradient: np.ndarray | Rows, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Dense gradient, and which elements of the parameter it may move."""
    if isinstance(gradient, Rows):
        dense, touched = np.zeros(shape), np.zeros(shape, bool)
        for index, row in zip(gradient.indices, gradient.values, strict=True):
            dense[index] += row
            touched[index] = True
        return dense, touched
    return np.asarray(gradient, np.float64), np.ones(shape, bool)


class Reference:
    """What all optimizers share: accumulation, clipping, counting, the moving average."""

    slots: tuple[str, ...] = ()

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        lazy: bool = False,
        nonfinite: str = "propagate",
    ) -> None:
        self.parameters = [np.array(p, np.float64) for p in parameters]
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.gradient_accumulation_steps = gradient_accumulation_steps or 1
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.lazy = lazy
        self.nonfinite = nonfinite
        self.updates = 0
        self.skipped = 0
        self.slot = {name: [np.zeros_like(p) for p in self.parameters] for name in self.all_slots()}
        self.average = [np.zeros_like(p) for p in self.parameters]
        self._micro_steps = 0
        self._sums: list[np.ndarray | None] = [None] * len(self.parameters)

    def all_slots(self) -> tuple[str, ...]:
        """Names of the per-variable state, in the originals' order."""
        return self.slots

    def apply(self, gradients: Sequence[Gradient]) -> bool:
        """One call of ``apply_gradients``; whether it made an update."""
        if self.nonfinite == "skip" and any(
            g is not None and not np.all(np.isfinite(summed(g, p.shape)[0]))
            for g, p in zip(gradients, self.parameters, strict=True)
        ):
            self.skipped += 1
            return False
        if self.gradient_accumulation_steps > 1:
            mean = self._accumulated(gradients)
            if mean is None:
                return False
            gradients = mean
        made = self._update(self._clipped(gradients))
        if made:
            self.updates += 1
            self._follow_average()
        return made

    def _accumulated(self, gradients: Sequence[Gradient]) -> list[Gradient] | None:
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                dense, _ = summed(gradient, self.parameters[i].shape)
                so_far = self._sums[i]
                self._sums[i] = dense if so_far is None else so_far + dense
        self._micro_steps += 1
        if self._micro_steps % self.gradient_accumulation_steps:
            return None
        # A variable without a gradient now keeps its sum for its next update.
        mean: list[Gradient] = [None] * len(self.parameters)
        for i, gradient in enumerate(gradients):
            total = self._sums[i]
            if gradient is not None and total is not None:
                mean[i], self._sums[i] = total / self.gradient_accumulation_steps, None
        return mean

    def _clipped(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """As the originals: sparse gradients by their rows as they come, duplicates apart."""
        values = [g.values if isinstance(g, Rows) else g for g in gradients]
        norms = [0.0 if v is None else float(np.linalg.norm(v)) for v in values]
        if self.clipvalue is not None:
            limit = self.clipvalue
            clipped = [None if v is None else np.clip(v, -limit, limit) for v in values]
        elif self.clipnorm is not None:
            factors = [self.clipnorm / max(norm, self.clipnorm) for norm in norms]
            clipped = [None if v is None else v * f for v, f in zip(values, factors, strict=True)]
        elif self.global_clipnorm is not None:
            norm = math.sqrt(sum(norm**2 for norm in norms))
            factor = self.global_clipnorm / max(norm, self.global_clipnorm)
            clipped = [None if v is None else v * factor for v in values]
        else:
            clipped = values
        return [
            Rows(g.indices, v) if isinstance(g, Rows) else v
            for g, v in zip(gradients, clipped, strict=True)
        ]

    def _follow_average(self) -> None:
        if not self.use_ema:
            return
        momentum = self.ema_momentum if self.updates > 1 else 0.0
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average[...] = momentum * average + (1 - momentum) * parameter
        if self.ema_overwrite_frequency and self.updates % self.ema_overwrite_frequency == 0:
            for average, parameter in zip(self.average, self.parameters, strict=True):
                parameter[...] = average

    def _update(self, gradients: Sequence[Gradient]) -> bool:
        """Move the parameters; ``self.updates`` is the number of updates before this one."""
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                dense, touched = summed(gradient, self.parameters[i].shape)
                self._update_one(i, dense, touched)
        return True

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        raise NotImplementedError

    def _average_into(
        self, slot: str, i: int, beta: float, value: np.ndarray, touched: np.ndarray
    ) -> np.ndarray:
        """The slot's moving average; lazy slots stand still in rows without gradient."""
        moving = self.slot[slot][i]
        new = beta * moving + (1 - beta) * value
        moving[...] = np.where(touched, new, moving) if self.lazy else new
        return moving


class SGD(Reference):
    """Momentum as Keras has it: velocity = momentum * velocity - lr * g."""

    slots = ("momentum",)

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **shared: object,
    ) -> None:
        super().__init__(parameters, **shared)  # type: ignore[arg-type]
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        rate = value_at(self.learning_rate, self.updates)
        velocity = self.slot["momentum"][i]
        velocity[...] = self.momentum * velocity - rate * gradient
        change = self.momentum * velocity - rate * gradient if self.nesterov else velocity
        self.parameters[i][touched] += change[touched]


class Adam(Reference):
    """Adam in the form Keras and TensorFlow use (Kingma & Ba, end of section 2)."""

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **shared: object,
    ) -> None:
        super().__init__(parameters, **shared)  # type: ignore[arg-type]
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        m = self._average_into("m", i, self.beta_1, gradient, touched)
        v = self._average_into("v", i, self.beta_2, gradient**2, touched)
        rate = value_at(self.learning_rate, self.updates)
        rate *= math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        self.parameters[i][touched] -= (rate * m / (np.sqrt(v) + self.epsilon))[touched]


class RectifiedAdam(Adam):
    """Liu et al. 2020, algorithm 2, with the arguments of the 2020 TensorFlow class."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: Number = 0.0,
        amsgrad: bool = False,
        sma_threshold: float = 5.0,
        total_steps: int = 0,
        warmup_proportion: float = 0.1,
        min_lr: float = 0.0,
        *,
        decay: float = 0.0,
        unrectified_update: str = "momentum",
        excluded: frozenset[int] = frozenset(),
        **shared: object,
    ) -> None:
        self.amsgrad = amsgrad
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **shared)
        self.weight_decay = weight_decay
        self.sma_threshold = sma_threshold
        self.total_steps = total_steps
        self.warmup_proportion = warmup_proportion
        self.min_lr = min_lr
        self.decay = decay
        self.unrectified_update = unrectified_update
        self.excluded = excluded

    def all_slots(self) -> tuple[str, ...]:
        """With amsgrad also the running maximum."""
        return ("m", "v", "vhat") if self.amsgrad else ("m", "v")

    def rate(self, iterations: int) -> float:
        """The learning rate of the update after ``iterations``: schedule, decay, warmup."""
        t = iterations + 1
        rate = value_at(self.learning_rate, iterations) / (1 + self.decay * iterations)
        if self.total_steps > 0:
            warmup = self.total_steps * self.warmup_proportion
            if t <= warmup:
                return rate * t / warmup
            remaining = max(self.total_steps - warmup, 1.0)
            return rate + (self.min_lr - rate) * min(t - warmup, remaining) / remaining
        return rate

    def rectification(self, t: int) -> float | None:
        """The paper's r_t, or None while the variance is not tractable."""
        longest = 2 / (1 - self.beta_2) - 1
        power = self.beta_2**t
        length = longest - 2 * t * power / (1 - power)
        if length < self.sma_threshold:
            return None
        return math.sqrt(
            (length - 4) / (longest - 4) * (length - 2) / (longest - 2) * longest / length
        )

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        parameter = self.parameters[i]
        m = self._average_into("m", i, self.beta_1, gradient, touched)
        second = self._average_into("v", i, self.beta_2, gradient**2, touched)
        if self.amsgrad:
            largest = self.slot["vhat"][i]
            new = np.maximum(largest, second)
            largest[...] = np.where(touched, new, largest) if self.lazy else new
            second = largest
        m_corrected = m / (1 - self.beta_1**t)
        r = self.rectification(t)
        if r is not None:
            change = r * m_corrected / (np.sqrt(second / (1 - self.beta_2**t)) + self.epsilon)
        elif self.unrectified_update == "momentum":
            change = m_corrected
        else:
            return
        if i not in self.excluded:
            change = change + value_at(self.weight_decay, self.updates) * parameter
        parameter[touched] -= self.rate(self.updates) * change[touched]


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
