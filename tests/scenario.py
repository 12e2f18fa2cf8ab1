"""One run that no recording covers: an optimizer, its options, and what changes on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

import reference
import surefoot
from reference_base import LISTS, Reference
from surefoot.arguments.keywords import BASE_ARGUMENTS

SHAPES = ((4, 3), (3,), ())
STEPS = 14


def f32(number: float) -> float:
    """The float32 value of a number."""
    return float(np.float32(number))


@dataclass(frozen=True, eq=False)
class Both:
    """An argument that the package takes in one form and the reference in another."""

    given: Callable[[], Any]
    means: Any


@dataclass(frozen=True, eq=False)
class Scenario:
    """One run. ``changes`` are attributes written before the step they stand under."""

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scale: float = 1.0
    steps: int = STEPS

    def optimizer(self) -> keras.optimizers.Optimizer:
        """The package's optimizer."""
        options = {
            key: value.given() if isinstance(value, Both) else value
            for key, value in self.options.items()
        }
        made = getattr(surefoot, self.kind)
        parameters = inspect.signature(made).parameters
        if "optimizer" not in parameters:
            return made(**options)
        own = {k: options.pop(k) for k in list(options) if k in (*parameters, *BASE_ARGUMENTS)}
        return made(surefoot.RectifiedAdam(**options), **own)

    def reference(self, start: Sequence[np.ndarray]) -> Reference:
        """The NumPy reference."""
        options = {
            key: value.means if isinstance(value, Both) else value
            for key, value in self.options.items()
        }
        options.pop("loss_scale_factor", None)
        options = {LISTS.get(key, key): value for key, value in options.items()}
        if self.kind == "Ranger":
            return reference.ranger(start, **options)
        build = getattr(reference, self.kind)
        if "inner" in inspect.signature(build).parameters:
            return reference.around_rectified_adam(build, start, **options)
        return build(start, **options)

    def start(self) -> list[np.ndarray]:
        """Parameters before the first step."""
        return [np.random.default_rng(1).normal(size=shape) for shape in SHAPES]

    def gradients(self, step: int) -> list[np.ndarray | None]:
        """Gradients of a step, of different sizes, None for the variables missing there."""
        random = np.random.default_rng(step)
        return [
            None
            if i in self.missing.get(step, ())
            else random.normal(size=shape) * 10.0 ** random.integers(-2, 2) + 0.1
            for i, shape in enumerate(SHAPES)
        ]

    def change(self, step: int, *holders: Any) -> None:
        """Write what changes before ``step`` to the optimizer or the reference."""
        for name, value in self.changes.get(step, {}).items():
            for holder in holders:
                # a hyperparameter of Ranger's inner optimizer is the inner reference's
                setattr(holder if hasattr(holder, name) else holder.inner, name, value)
