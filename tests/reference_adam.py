"""The references of Keras's optimizers, and of RectifiedAdam, on which others are built."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reference_base import Number, Reference, value_at


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

    def _second_moment(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> np.ndarray:
        return self._average_into("v", i, self.beta_2, gradient**2, touched)

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
        second = self._second_moment(i, gradient, touched)
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
