"""Custom training loops, one for each way a backend runs an optimizer.

``Loop`` hands gradients given as NumPy arrays to an optimizer, in one of ``MODES``: what
this backend offers among eager, compiled, and (TensorFlow) compiled with XLA, with Keras
variables or TensorFlow's own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from reference_base import Gradient, Rows

BACKEND = keras.backend.backend()

EAGER = "eager"
MODES: tuple[str, ...] = {
    "tensorflow": (EAGER, "graph", "xla", "eager-tf.Variable", "graph-tf.Variable"),
    "jax": (EAGER, "jit"),
    "torch": (EAGER,),
}[BACKEND]
COMPILED = MODES[1] if len(MODES) > 1 else EAGER
EAGER_AND_COMPILED = tuple(dict.fromkeys((EAGER, COMPILED)))

# Compiled programs depend on the number of rows: sparse gradients are padded to this many.
ROWS = 8


def to_numpy(tensor: Any) -> np.ndarray:
    """Any backend's tensor or variable as a NumPy array."""
    value = tensor.value if isinstance(tensor, keras.Variable) else tensor
    return np.array(keras.ops.convert_to_numpy(value))


def _padded(rows: Rows) -> Rows:
    """The same gradient in ``ROWS`` rows: the last index again, with zeros."""
    missing = max(0, ROWS - len(rows.indices))
    return Rows(
        np.concatenate([rows.indices, np.repeat(rows.indices[-1:], missing)]),
        np.concatenate([rows.values, np.zeros((missing, *rows.values.shape[1:]))]),
    )


class Loop:
    """An optimizer, the variables it trains and a way of making its steps."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        start: Sequence[np.ndarray],
        *,
        dtype: str = "float32",
        mode: str = EAGER,
        names: Sequence[str] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.dtype = dtype
        how, _, kind = mode.partition("-")
        names = names or [f"variable_{i}" for i in range(len(start))]
        self.variables = [
            _new_variable(value, dtype, name, kind)
            for value, name in zip(start, names, strict=True)
        ]
        self._padding = how == "xla"
        self._apply: Callable[[list[Any]], None] = getattr(self, f"_{how}")()

    def step(self, gradients: Sequence[Gradient]) -> None:
        """One call of ``apply_gradients`` with these gradients."""
        self._apply([self._tensor(g, v) for g, v in zip(gradients, self.variables, strict=True)])

    @property
    def parameters(self) -> list[np.ndarray]:
        """The variables' values, in float64."""
        return [to_numpy(v).astype(np.float64) for v in self.variables]

    def slot(self, name: str) -> list[np.ndarray]:
        """One slot of every variable, in float64."""
        return [
            to_numpy(self.optimizer.get_slot(v, name)).astype(np.float64) for v in self.variables
        ]

    def _tensor(self, gradient: Gradient, variable: Any) -> Any:
        if gradient is None:
            return None
        if isinstance(gradient, Rows):
            import tensorflow as tf

            rows = _padded(gradient) if self._padding else gradient
            return tf.IndexedSlices(
                tf.constant(rows.values, self.dtype),
                tf.constant(rows.indices),
                tf.constant(variable.shape),
            )
        return keras.ops.convert_to_tensor(np.asarray(gradient), dtype=self.dtype)

    def _eager(self) -> Callable[[list[Any]], None]:
        return lambda gradients: self.optimizer.apply_gradients(
            list(zip(gradients, self.variables, strict=True))
        )

    def _graph(self) -> Callable[[list[Any]], None]:
        # Else TensorFlow traces the first step twice. With XLA and TensorFlow's own variables,
        # the optimizer is built within the step.
        if isinstance(self.variables[0], keras.Variable):
            self.optimizer.build(self.variables)
        return self._function()

    def _function(self, **how: Any) -> Callable[[list[Any]], None]:
        import tensorflow as tf

        @tf.function(reduce_retracing=True, **how)
        def apply(gradients: list[Any]) -> None:
            self.optimizer.apply_gradients(list(zip(gradients, self.variables, strict=True)))

        return apply

    def _xla(self) -> Callable[[list[Any]], None]:
        return self._function(jit_compile=True)

    def _jit(self) -> Callable[[list[Any]], None]:
        import jax

        self.optimizer.build(self.variables)
        compiled = jax.jit(self.optimizer.stateless_apply)

        def apply(gradients: list[Any]) -> None:
            parameters, state = compiled(
                [v.value for v in self.optimizer.variables],
                gradients,
                [v.value for v in self.variables],
            )
            for variable, value in zip(self.variables, parameters, strict=True):
                variable.assign(value)
            for variable, value in zip(self.optimizer.variables, state, strict=True):
                variable.assign(value)

        return apply


def _new_variable(value: np.ndarray, dtype: str, name: str, kind: str) -> Any:
    if kind == "tf.Variable":
        import tensorflow as tf

        return tf.Variable(np.asarray(value), dtype=dtype, name=name)
    return keras.Variable(np.asarray(value), dtype=dtype, name=name)


REASONS_AGAINST_LOOPS = ("not installed", "another interface", "switched off")


@contextlib.contextmanager
def without_loops(
    reason: str, another_interface: Callable[[pytest.MonkeyPatch], None], *cached: Any
) -> Iterator[None]:
    """Loops are not to be had for a reason; ``cached`` functions had asked for them."""
    with pytest.MonkeyPatch.context() as patch:
        for function in cached:
            function.cache_clear()
        if reason == "not installed":
            patch.setitem(sys.modules, "llvmlite.binding", None)
        elif reason == "switched off":
            patch.setenv("SUREFOOT_LOOPS", "0")
        else:
            another_interface(patch)
        try:
            yield
        finally:
            for function in cached:
                function.cache_clear()
