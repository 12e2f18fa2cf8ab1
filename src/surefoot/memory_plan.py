"""How much memory a training needs for each parameter, before and after it begins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from surefoot import engines
from surefoot.base.optimizer import BaseOptimizer
from surefoot.variables.keras_optimizer import with_inner_optimizers, wrapped_optimizers
from surefoot.variables.variable import dtype_of

_KINDS = {
    "m": "moments",
    "v": "moments",
    "vhat": "moments",
    "momentum": "moments",
    "master": "master",
    "slow": "slow weights",
    "average": "average",
    "ema": "average",
    "gradient_accumulator": "accumulated gradients",
}
"""What a slot is, by its name; a slot of another name is called by that."""


@dataclass(frozen=True)
class Memory:
    """The memory of a training, by kind.

    Attributes:
        parameters: How many numbers are trained.
        bytes: For each kind, ``"parameters"``, ``"gradients"``, ``"moments"`` and so on, how many
            bytes all numbers of it take. All processes of a distributed training together
            have so many of what they do not share.
    """

    parameters: int
    bytes: dict[str, int]

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.bytes.values())

    @property
    def per_parameter(self) -> dict[str, float]:
        """Bytes for each trained number, by kind."""
        return {kind: size / max(self.parameters, 1) for kind, size in self.bytes.items()}

    def __str__(self) -> str:
        lines = [f"{self.parameters:,} parameters", f"{'':22}{'bytes each':>10}{'MB':>12}"]
        rows = [*self.bytes.items(), ("all", self.total)]
        for kind, size in rows:
            lines.append(f"{kind:22}{size / max(self.parameters, 1):10.2f}{size / 1e6:12.1f}")
        return "\n".join(lines)


def memory(model_or_optimizer: Any, variables: Iterable[Any] | None = None) -> Memory:
    """The memory that parameters, gradients and an optimizer's state take.

    It is known before the optimizer is built, so that a training can be planned. Activations,
    and what a backend needs besides while it works, are not counted.

    Example:
        >>> import keras, surefoot
        >>> model = keras.Sequential([keras.Input((999,)), keras.layers.Dense(1000)])
        >>> model.compile(surefoot.Nadam(moments="bfloat16"), "mse")
        >>> print(surefoot.memory(model))
        1,000,000 parameters
                              bytes each          MB
        parameters                  4.00         4.0
        gradients                   4.00         4.0
        moments                     4.00         4.0
        all                        12.00        12.0

    Args:
        model_or_optimizer: A compiled model, or an optimizer.
        variables: The variables that the optimizer will train. Defaults to those of the model, or
            those that the optimizer was built for.

    Returns:
        The bytes by kind.

    Raises:
        TypeError: If it is neither a compiled model nor a Keras optimizer.
        ValueError: If the variables are not known; or if a `MultiOptimizer`, or an inner optimizer
            of Keras's own, has not been built, since what it has is known only then.
    """
    optimizer = getattr(model_or_optimizer, "optimizer", model_or_optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`model_or_optimizer` must be a compiled model or an optimizer of Keras. "
            f"Received: {model_or_optimizer!r}"
        )
    if variables is None and optimizer is not model_or_optimizer:
        variables = model_or_optimizer.trainable_variables
    if variables is None and optimizer.built:
        variables = optimizer._trainable_variables
    if variables is None:
        raise ValueError(
            f"The optimizer '{optimizer.name}' has not been built: say what it will train. "
            "Received: variables=None"
        )
    variables = list(variables)
    size = sum(_count(v) * _bytes(dtype_of(v)) for v in variables)
    found = {"parameters": size, "gradients": size}
    for one in with_inner_optimizers(optimizer):
        if len(wrapped_optimizers(one)) > 1 and not one.built:
            raise ValueError(
                f"Which part of '{one.name}' trains which variables is known after "
                "`optimizer.build(variables)`. Received: an optimizer that has not been built"
            )
        own = one._trainable_variables if one.built else variables
        for kind, numbers, dtype in _slots(one, own):
            found[kind] = found.get(kind, 0) + numbers * _bytes(dtype)
    return Memory(sum(map(_count, variables)), found)


def _slots(optimizer: Any, variables: list[Any]) -> Iterable[tuple[str, int, str]]:
    """The kind of each slot, how many numbers it has, and their dtype."""
    if len(wrapped_optimizers(optimizer)) > 1:  # its parts have them
        return
    if isinstance(optimizer, BaseOptimizer):
        for variable in variables:
            if not getattr(variable, "overwrite_with_gradient", False):
                for name, dtype in optimizer.slot_dtypes(variable).items():
                    numbers = 1 if name in optimizer.SCALAR_SLOTS else _count(variable)
                    yield _KINDS.get(name, name), numbers, dtype
        return
    if hasattr(optimizer, "inner_optimizer"):  # a `LossScaleOptimizer`, which has no slots
        return
    if not optimizer.built:
        raise ValueError(
            f"The slots of {type(optimizer).__name__}, an optimizer of Keras's own, are known "
            "after `optimizer.build(variables)`. Received: an optimizer that has not been built"
        )
    own = {id(optimizer._iterations), id(optimizer._learning_rate)}
    for slot in optimizer.variables:
        if id(slot) not in own:
            yield "state of " + type(optimizer).__name__, _count(slot), dtype_of(slot)


def _count(variable: Any) -> int:
    return math.prod(engines.active().shape(variable))


def _bytes(dtype: str) -> int:
    return int("".join(filter(str.isdigit, dtype))) // 8
