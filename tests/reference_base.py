"""What the NumPy references of all optimizers in ``reference`` are built on.

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

LISTS = {"exclude_from_weight_decay": "excluded", "exclude_from_layer_adaptation": "unadapted"}
"""Arguments that are lists of patterns, and what the references call the variables they match."""


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
