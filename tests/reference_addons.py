"""The references of TensorFlow Addons' other optimizers, from their papers and the recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reference_adam import SGD, Adam, RectifiedAdam
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


class AdaBelief(RectifiedAdam):
    """Zhuang et al. 2020, with epsilon in the average and beside its root."""

    def __init__(self, *args: object, rectify: bool = True, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.rectify = rectify

    def _second_moment(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> np.ndarray:
        belief = self.slot["v"][i]
        distance = gradient - self.slot["m"][i]
        new = self.beta_2 * belief + (1 - self.beta_2) * distance**2 + self.epsilon
        rest = belief if self.lazy else self.beta_2 * belief
        belief[...] = np.where(touched, new, rest)
        return belief

    def rectification(self, t: int) -> float | None:
        """1 if nothing is rectified."""
        return super().rectification(t) if self.rectify else 1.0


class LazyAdam(AdamW):
    """Adam that sees only the rows of a sparse gradient."""

    def __init__(self, parameters: Sequence[np.ndarray], *args: object, **options: object) -> None:
        super().__init__(parameters, 0.0, *args, lazy=True, **options)  # type: ignore[arg-type]


class Yogi(Decayed, Adam):
    """Zaheer et al. 2018, algorithm 2, with TensorFlow Addons' proximal step."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-3,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        initial_accumulator_value: float = 1e-6,
        activation: str = "sign",
        *,
        decay: float = 0.0,
        **shared: object,
    ) -> None:
        self.has_momentum = beta1 > 0.0
        super().__init__(parameters, learning_rate, beta1, beta2, epsilon, **shared)
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.activation = activation
        self.decay = decay
        for v in self.slot["v"]:
            v[...] = initial_accumulator_value

    def all_slots(self) -> tuple[str, ...]:
        """With beta1 = 0 there is no first moment."""
        return ("v", "m") if self.has_momentum else ("v",)

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        m = gradient
        if self.has_momentum:
            m = self._average_into("m", i, self.beta_1, gradient, touched)
        v = self.slot["v"][i]
        square = gradient**2
        sign = np.sign(square - v) if self.activation == "sign" else np.tanh(10 * (square - v))
        v[touched] += ((1 - self.beta_2) * sign * square)[touched]
        rate = self.rate() * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        rates = rate / (np.sqrt(v) + self.epsilon)
        new = self.parameters[i] - rates * m
        new = np.sign(new) * np.maximum(np.abs(new) - self.l1_regularization_strength * rates, 0)
        new /= 1 + self.l2_regularization_strength * rates
        self.parameters[i][touched] = new[touched]


class LAMB(Decayed, Adam):
    """You et al. 2020, algorithm 2; a sparse gradient is taken for a dense one."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: Number = 0.0,
        *,
        decay: float = 0.0,
        excluded: frozenset[int] = frozenset(),
        unadapted: frozenset[int] = frozenset(),
        **shared: object,
    ) -> None:
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **shared)
        self.weight_decay = weight_decay
        self.decay = decay
        self.excluded = excluded
        self.unadapted = unadapted or excluded

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        t = self.updates + 1
        parameter = self.parameters[i]
        m = self._average_into("m", i, self.beta_1, gradient, touched)
        v = self._average_into("v", i, self.beta_2, gradient**2, touched)
        corrected = m / (1 - self.beta_1**t)
        update = corrected / (np.sqrt(v / (1 - self.beta_2**t)) + self.epsilon)
        update = update + self.decay_of(i) * parameter
        lengths = float(np.linalg.norm(parameter)), float(np.linalg.norm(update))
        adapts = i not in self.unadapted and min(lengths) > 0
        ratio = lengths[0] / lengths[1] if adapts else 1.0
        parameter -= ratio * self.rate() * update


class NovoGrad(Decayed, Adam):
    """Ginsburg et al. 2019, with the learning rate in the momentum as in TensorFlow."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: Number = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        grad_averaging: bool = False,
        amsgrad: bool = False,
        *,
        decay: float = 0.0,
        **shared: object,
    ) -> None:
        self.amsgrad = amsgrad
        super().__init__(parameters, learning_rate, beta_1, beta_2, epsilon, **shared)
        self.slot["v"] = [np.zeros(()) for _ in self.parameters]
        self.weight_decay = weight_decay
        self.grad_averaging = grad_averaging
        self.decay = decay
        self.excluded = frozenset()

    def all_slots(self) -> tuple[str, ...]:
        """With amsgrad also the running maximum."""
        return ("m", "v", "vhat") if self.amsgrad else ("m", "v")

    def _update_one(self, i: int, gradient: np.ndarray, touched: np.ndarray) -> None:
        first = self.updates == 0
        square, v = np.sum(gradient**2), self.slot["v"][i]
        v[...] = square if first else self.beta_2 * v + (1 - self.beta_2) * square
        second = v
        if self.amsgrad:
            second = self.slot["vhat"][i]
            second[...] = np.maximum(second, v)
        parameter, velocity = self.parameters[i], self.slot["m"][i]
        change = gradient / (np.sqrt(second) + self.epsilon) + self.decay_of(i) * parameter
        if self.grad_averaging and not first:
            change = (1 - self.beta_1) * change
        velocity[touched] = (self.beta_1 * velocity - self.rate() * change)[touched]
        parameter[touched] += velocity[touched]
