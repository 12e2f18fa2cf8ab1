"""The references of TensorFlow Addons' other optimizers, from their papers and the recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reference_adam import SGD, Adam
from reference_base import Number, value_at


class Decayed:
    """Mixin: the rate over ``1 + decay * updates``, and what is excluded from weight decay."""

    learning_rate: Number
    updates: int
    decay: float
    weight_decay: Number
    excluded: frozenset[int]

    def rate(self) -> float:
        """The learning rate of the next update."""
        return value_at(self.learning_rate, self.updates) / (1 + self.decay * self.updates)

    def decay_of(self, i: int) -> float:
        """The weight decay of a variable in the next update."""
        return 0.0 if i in self.excluded else value_at(self.weight_decay, self.updates)


class AdamW(Decayed, Adam):
    """Loshchilov & Hutter 2019; a sparse gradient moves all rows and decays its own."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        weight_decay: Number,
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *,
        decay: float = 0.0,
        excluded: frozenset[int] = frozenset(),
        **shared: object,
    ) -> None:
        self.amsgrad = amsgrad
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **shared)
        self.weight_decay = weight_decay
        self.decay = decay
        self.excluded = excluded

    def all_slots(self) -> tuple[str, ...]:
        """With amsgrad also the running maximum."""
        return ("m", "v", "vhat") if self.amsgrad else ("m", "v")

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        parameter = self.parameters[i]
        parameter[touched] *= 1 - self.decay_of(i)
        m = self._average_into("m", i, self.beta_1, gradient, touched)
        second = self._average_into("v", i, self.beta_2, gradient**2, touched)
        if self.amsgrad:
            largest = self.slot["vhat"][i]
            new = np.maximum(largest, second)
            largest[...] = np.where(touched, new, largest) if self.lazy else new
            second = largest
        rate = self.rate() * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        moves = touched if self.lazy else np.ones_like(touched)
        parameter[moves] -= (rate * m / (np.sqrt(second) + self.epsilon))[moves]


class SGDW(Decayed, SGD):
    """Loshchilov & Hutter 2019; what a sparse gradient does not touch stays as it is."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        weight_decay: Number,
        learning_rate: Number = 0.001,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        decay: float = 0.0,
        excluded: frozenset[int] = frozenset(),
        **shared: object,
    ) -> None:
        self.has_momentum = momentum > 0.0
        super().__init__(parameters, learning_rate, momentum, nesterov, **shared)
        self.weight_decay = weight_decay
        self.decay = decay
        self.excluded = excluded

    def all_slots(self) -> tuple[str, ...]:
        """Without momentum there is no state."""
        return ("momentum",) if self.has_momentum else ()

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        parameter = self.parameters[i]
        change = -self.rate() * gradient
        if self.has_momentum or np.all(touched):
            parameter[touched] *= 1 - self.decay_of(i)
        if self.has_momentum:
            velocity = self.slot["momentum"][i]
            velocity[touched] = (self.momentum * velocity + change)[touched]
            change = self.momentum * velocity + change if self.nesterov else velocity
        parameter[touched] += change[touched]
