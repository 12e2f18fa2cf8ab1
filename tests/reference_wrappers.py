"""References of the optimizers that wrap others, and of schedules; see ``reference``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from reference_base import Gradient, Reference


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


class Averaged(Reference):
    """What MovingAverage and SWA share: the inner optimizer trains, and an average follows."""

    slots = ("average",)

    def __init__(self, inner: Reference, **shared: object) -> None:
        super().__init__(inner.parameters, **shared)  # type: ignore[arg-type]
        self.parameters = inner.parameters
        self.inner = inner

    def mixed(self, average: np.ndarray, parameter: np.ndarray) -> np.ndarray:
        """The average after this update."""
        raise NotImplementedError

    def _update(self, gradients: Sequence[Gradient]) -> bool:
        if not self.inner.apply(gradients):
            return False
        trios = zip(self.slot["average"], self.parameters, gradients, strict=True)
        for average, parameter, gradient in trios:
            if gradient is not None:
                average[...] = self.mixed(average, parameter)
        return True


class MovingAverage(Averaged):
    """An exponential average that begins at the first values."""

    def __init__(
        self,
        inner: Reference,
        average_decay: float = 0.99,
        num_updates: int | None = None,
        start_step: int = 0,
        dynamic_decay: bool = False,
        **shared: object,
    ) -> None:
        super().__init__(inner, **shared)
        if num_updates is not None:
            average_decay = min(average_decay, (1 + num_updates) / (10 + num_updates))
        self.average_decay = average_decay
        self.start_step = start_step
        self.dynamic_decay = dynamic_decay
        for average, parameter in zip(self.slot["average"], self.parameters, strict=True):
            average[...] = parameter

    def mixed(self, average: np.ndarray, parameter: np.ndarray) -> np.ndarray:
        """See `Averaged`."""
        t = self.updates - self.start_step
        decay = 0.0 if t < 0 else self.average_decay
        if self.dynamic_decay:
            decay = min(decay, max(1 + t, 0) / max(10 + t, 1))
        return decay * average + (1 - decay) * parameter


class SWA(Averaged):
    """Izmailov et al. 2018, algorithm 1, with a period of updates instead of epochs."""

    def __init__(
        self,
        inner: Reference,
        start_averaging: int = 0,
        average_period: int = 10,
        **shared: object,
    ) -> None:
        super().__init__(inner, **shared)
        self.start_averaging = start_averaging
        self.average_period = average_period

    def mixed(self, average: np.ndarray, parameter: np.ndarray) -> np.ndarray:
        """See `Averaged`."""
        models, rest = divmod(self.updates - self.start_averaging, self.average_period)
        if models < 0 or rest:
            return average
        return (average * models + parameter) / (models + 1)


class MultiOptimizer(Reference):
    """Optimizers that each train some of the variables; one without a gradient does not step."""

    def __init__(self, parts: Sequence[tuple[Reference, set[int]]], **shared: object) -> None:
        super().__init__(parts[0][0].parameters, **shared)  # type: ignore[arg-type]
        self.parts = parts
        for part, _ in parts:
            part.parameters = self.parameters

    def _update(self, gradients: Sequence[Gradient]) -> bool:
        for part, own in self.parts:
            chosen = [g if i in own else None for i, g in enumerate(gradients)]
            if any(g is not None for g in chosen):
                part.apply(chosen)
        return True


def cyclical(
    low: float, high: float, half: float, scale: Callable[[float], float], by_cycle: bool
) -> Callable[[int], float]:
    """Smith 2017, section 3: a triangle wave whose height is scaled."""

    def rate(iterations: int) -> float:
        cycle = math.floor(1 + iterations / (2 * half))
        height = max(0.0, 1 - abs(iterations / half - 2 * cycle + 1))
        return low + (high - low) * height * scale(cycle if by_cycle else iterations)

    return rate
