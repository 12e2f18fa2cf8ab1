"""What an engine does with gradients: it makes, prepares, clips and measures them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import keras

from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.variable_step import VariableStep
from surefoot.rule.update import Array
from surefoot.variables.variable import value_of


class GradientEngine(VariableStep):
    """The part of `surefoot.engines.engine` that is about gradients."""

    @abstractmethod
    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
    ) -> tuple[list[Any], list[Any]]:
        """Differentiate ``loss``; return gradients and variables."""

    @abstractmethod
    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        """Differentiate a tensor of a graph."""

    def as_tensors(self, gradients: Iterable[Any]) -> list[Any]:
        """Gradients given as anything that the backend takes for tensors; None stays None."""
        return [None if g is None else self.as_tensor(g) for g in gradients]

    @abstractmethod
    def as_tensor(self, gradient: Any) -> Any:
        """A gradient as a tensor, which may be sparse."""

    def upcast(self, gradients: list[Any], *, only_special: bool = False) -> list[Any]:
        """Gradients in at least float32; None stays None.

        Args:
            gradients: The gradients.
            only_special: Whether to leave those alone that `is_dense` tells, of any dtype.
        """
        return [
            g if g is None or (only_special and self.is_dense(g)) else self.upcast_one(g)
            for g in gradients
        ]

    @abstractmethod
    def is_dense(self, gradient: Any) -> bool:
        """Whether a gradient is a tensor with all its numbers, as they are."""

    @abstractmethod
    def upcast_one(self, gradient: Any) -> Any:
        """A gradient in at least float32, sparse only where `update_variable` takes it so."""

    def dense_values(self, gradient: Any) -> Array:
        """All numbers of a gradient, however it is stored."""
        return self.upcast_one(gradient)

    def finite(self, gradients: list[Any]) -> Array:
        """For each gradient, whether all of it is finite: a boolean vector."""
        values = map(self.dense_values, gradients)
        return keras.ops.stack([keras.ops.all(keras.ops.isfinite(v)) for v in values])

    @abstractmethod
    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
        """Raise FloatingPointError naming the variables whose flag is False.

        Returns the flags; what is computed from these comes after the report.

        In a compiled step, where nothing can be raised at once, the error
        arrives through the runtime; the step is skipped as well.
        """

    def clip(
        self,
        optimizer: SteppedOptimizer,
        gradients: list[Any],
        keras_clip: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """Clip as the arguments of ``optimizer`` say, by Keras's own function where it is exact.

        Clipping by value may be left to `update`, which does so in its pass over memory.
        """
        if optimizer.clipvalue is not None and optimizer.clips_in_update():
            return gradients
        return keras_clip(gradients)

    def clip_values(self, gradient: Any, bound: float | None) -> Any:
        """A gradient clipped by value, if there is a bound."""
        return gradient if bound is None else keras.ops.clip(gradient, -bound, bound)

    @abstractmethod
    def global_norm(self, tensors: list[Any]) -> Array:
        """The Euclidean norm of all elements together, in float32.

        Of a sparse gradient, rows that are given twice are added first.
        """

    def snapshot(self, variables: list[Any]) -> list[Array]:
        """Their values in at least float32, which no later step changes."""
        return self.upcast([value_of(v) for v in variables])

    def distance(self, before: list[Array], variables: list[Any]) -> Array:
        """How far ``variables`` are from a `snapshot`, in float32; it may be used up."""
        pairs = zip(self.snapshot(variables), before, strict=True)
        return self.global_norm([now - then for now, then in pairs])
