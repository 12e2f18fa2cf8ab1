"""Loops on TensorFlow, in place, as operations of the graph of a step.

A variable's memory belongs to it alone only while nobody holds a value read from it. TensorFlow
sees to that before it updates rows of a variable, if need be by a copy; so no rows are updated,
and the tensor read next shares the memory with the variable and with nobody else. The loop writes
into it.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from surefoot.engines import plain, tensorflow_foreign
from surefoot.engines.loops import Elementwise, Lines, Row, UnknownOperationError
from surefoot.engines.tensorflow_kernels import is_traced_for_xla, run_if
from surefoot.rule import Array
from surefoot.slots import value_of

_NAMES = {
    "Abs": "abs",
    "AddV2": "add",
    "Equal": "eq",
    "Exp": "exp",
    "Expm1": "expm1",
    "Greater": "gt",
    "GreaterEqual": "ge",
    "Less": "lt",
    "LessEqual": "le",
    "Log1p": "log1p",
    "LogicalAnd": "and",
    "LogicalNot": "not",
    "LogicalOr": "or",
    "Maximum": "max",
    "Minimum": "min",
    "Mul": "mul",
    "Neg": "neg",
    "NotEqual": "ne",
    "RealDiv": "div",
    "SelectV2": "select",
    "Sqrt": "sqrt",
    "Square": "square",
    "Sub": "sub",
}
"""Operations that loops are made of, by TensorFlow's names."""

_DTYPES = (tf.bool, tf.float32, tf.float64)

_UPDATES_OF_ROWS = {
    1: ("ResourceSparseApplyProximalGradientDescent", 3, 0),
    2: ("ResourceSparseApplyMomentum", 1, 1),
    3: ("ResourceSparseApplyAdadelta", 3, 0),
    4: ("ResourceSparseApplyCenteredRMSProp", 4, 0),
}
"""Operations that update rows of some variables together; how many factors they take before and
after the gradient.

TensorFlow leaves out the plain addition of no rows.
"""


def array_namespace() -> Any:
    """TensorFlow itself."""
    return tf


def cast(value: Array, dtype: Any) -> Array:
    """A value in another dtype."""
    return tf.cast(value, dtype)


def clipped(gradient: Any, bound: float | None) -> Any:
    """A gradient within ``bound`` on both sides of zero."""
    return gradient if bound is None else keras.ops.clip(gradient, -bound, bound)


def servable(rows: list[Row]) -> list[bool]:
    """Whether a loop may take each of these rows."""
    possible = _is_possible()
    return [possible and _may_serve(row) for row in rows]


def _is_possible() -> bool:
    return (
        not tf.executing_eagerly()
        and not tf.distribute.has_strategy()
        and not _xla_takes_parts()
        and tensorflow_foreign.is_available()
    )


def _xla_takes_parts() -> bool:
    """Whether XLA may read a variable in place of TensorFlow: it could hand on a copy."""
    return bool(tf.config.optimizer.get_jit()) or "auto_jit" in os.environ.get("TF_XLA_FLAGS", "")


def _may_serve(row: Row) -> bool:
    """Whether all is dense, of one dtype, and in the memory of this process.

    A variable of a single number has no rows to update, and so to do without.
    """
    tensors = [value_of(v) for v in row.variables]
    alike = [*tensors, *row.given]
    return (
        not any(isinstance(t, tf.IndexedSlices) for t in alike)
        and len({t.dtype for t in alike}) == 1
        and tensors[0].dtype in (tf.float32, tf.float64)
        and len(row.changed) in _UPDATES_OF_ROWS
        and math.prod(tensors[0].shape) > 0
        and all(t.shape.rank for t in tensors)
        and all(t.shape.is_compatible_with(tensors[0].shape) for t in alike)
        and all(_is_here(t) for t in tensors)
    )


def _is_here(variable: Any) -> bool:
    return (
        isinstance(variable, tf.Variable)
        and "/job:localhost/" in variable.device
        and "/device:CPU:" in variable.device
    )


def samples(variables: list[tf.Variable], count: int) -> tf.Tensor | None:
    """``count`` numbers of each, in rows, unless there is one that they cannot be read from.

    As operations of TensorFlow this would be four for each variable, twice a step.
    """
    usable = _is_possible() and not is_traced_for_xla()
    if not usable or not all(_is_here(v) and v.dtype is tf.float32 for v in variables):
        return None
    strides = [plain.probe_stride(math.prod(v.shape), count) for v in variables]
    with tf.device(variables[0].device):
        handles = [v.handle for v in variables]
        tensors = _read_together(handles, tf.float32)
        (result,) = _create(
            tensorflow_foreign.numbers(count),
            [tf.constant(strides, tf.int64), *handles, *tensors],
            [tf.float32],
            M=len(handles),
            N=len(tensors),
        ).outputs
    result.set_shape((len(variables), count))
    return result


def run(function: Elementwise, rows: list[Row], *, condition: Array | None = None) -> bool:
    """Give each row's variables their new values, where ``condition`` holds: see `Looping`."""
    dtype = value_of(rows[0].changed[0]).dtype
    length = len(rows[0].variables) + len(rows[0].given)
    traced = tf.function(function, autograph=False).get_concrete_function(
        *[tf.TensorSpec((), dtype)] * length
    )
    lines = Lines(length, dtype.name, "float64")
    written = _Written(lines)
    try:
        loop = lines.loop(written.results(traced))
    except UnknownOperationError:
        return False
    operation = tensorflow_foreign.operation(loop, dtype.name, len(rows[0].variables))
    device = value_of(rows[0].changed[0]).device
    if condition is None:
        with tf.device(device):
            _call(operation, written.scalars, rows)
    else:
        # A branch, as to see who holds a variable's memory takes its time, too.
        run_if(condition, lambda: _call(operation, written.scalars, rows), device)
    return True


def _call(operation: str, scalars: list[Array], rows: list[Row]) -> None:
    vector = tf.stack([tf.cast(s, tf.float64) for s in scalars] or [tf.zeros([], tf.float64)])
    variables = [[value_of(v) for v in row.variables] for row in rows]
    _part_from_readers([v[: len(row.changed)] for v, row in zip(variables, rows, strict=True)])
    # Of those read, too: who changes them later waits until this loop has let go of them.
    handles = [v.handle for row in variables for v in row]
    values = iter(_read_together(handles, variables[0][0].dtype))
    tensors = [
        tensor
        for row, of_row in zip(rows, variables, strict=True)
        for tensor in [*itertools.islice(values, len(of_row)), *row.given]
    ]
    _create(operation, [vector, *handles, *tensors], [], M=len(handles), N=len(tensors))


def _read_together(handles: list[tf.Tensor], dtype: tf.DType) -> list[tf.Tensor]:
    """The values of variables by one operation instead of one for each."""
    dtypes = [dtype.as_datatype_enum] * len(handles)
    return list(
        _create(
            "_ReadVariablesOp",
            handles,
            [dtype] * len(handles),
            N=len(handles),
            dtypes=tf.compat.v1.AttrValue.ListValue(type=dtypes),
        ).outputs
    )


def _create(
    operation: str, inputs: list[tf.Tensor], results: list[tf.DType], **attributes: Any
) -> tf.Operation:
    """Put an operation into the graph.

    TensorFlow's functions know not all of them, and look at each argument for longer than it
    takes to make one.
    """
    return tf.compat.v1.get_default_graph().create_op(
        operation,
        inputs,
        results,
        name="loop",
        attrs={
            name: tf.compat.v1.AttrValue(**{"i" if isinstance(value, int) else "list": value})
            for name, value in attributes.items()
        },
    )


def _part_from_readers(rows: list[list[tf.Variable]]) -> None:
    """Let nobody else hold the memory of these variables, as many of one shape in each row."""
    update, before, after = _UPDATES_OF_ROWS[len(rows[0])]
    dtype = rows[0][0].dtype
    factor = tf.zeros([], dtype)
    indices = tf.zeros([0], tf.int32)
    gradients: dict[tuple[int, ...], tf.Tensor] = {}
    for row in rows:
        inner = tuple(row[0].shape[1:])
        gradient = gradients.get(inner)
        if gradient is None:
            gradient = gradients[inner] = tf.zeros([0, *inner], dtype)
        handles = [v.handle for v in row]
        given = [*handles, *[factor] * before, gradient, indices, *[factor] * after]
        _create(update, given, [])
        # From now on reading makes copies: not for us, nor for the model's next pass.
        for handle in handles:
            _create("DisableCopyOnRead", [handle], [])


class _Written:
    """A traced function, and what computes the scalars that it closes over, written down.

    As operations of the graph, some hundred that wait for each other, these would take longer
    than to update a small model.

    Attributes:
        scalars: What it takes from the graph.
    """

    def __init__(self, lines: Lines) -> None:
        self.scalars: list[tf.Tensor] = []
        self._lines = lines
        self._names: dict[tuple[int, str], str] = {}

    def results(self, traced: Any) -> list[str]:
        """The names of a traced function's results.

        Raises:
            UnknownOperationError: If loops are not made of it.
        """
        inputs = traced.graph.inputs
        captured = inputs[len(self._lines.numbers) :]
        for tensor, number in zip(inputs, self._lines.numbers, strict=False):
            self._names[_key(tensor)] = number
        for inner, outer in zip(captured, traced.captured_inputs, strict=True):
            self._names[_key(inner)] = self._scalar(outer)
        return [self._name(tensor) for tensor in traced.graph.outputs]

    def _scalar(self, tensor: tf.Tensor) -> str:
        """A scalar of the graph: computed in the loop if possible, else taken from there."""
        key = _key(tensor)
        if key not in self._names:
            try:
                self._names[key] = self._computed(tensor, self._scalar)
            except UnknownOperationError:
                if not _is_scalar(tensor):
                    raise
                self.scalars.append(tensor)
                self._names[key] = self._lines.scalar(tensor.dtype.name)
        return self._names[key]

    def _name(self, tensor: tf.Tensor) -> str:
        key = _key(tensor)
        if key not in self._names:
            self._names[key] = self._computed(tensor, self._name)
        return self._names[key]

    def _computed(self, tensor: tf.Tensor, name_of: Callable[[tf.Tensor], str]) -> str:
        operation = tensor.op
        if not _is_scalar(tensor):
            raise UnknownOperationError(f"{operation.type} of {tensor.shape} {tensor.dtype}")
        if operation.type == "Const":
            return self._lines.constant(tf.get_static_value(tensor), tensor.dtype.name)
        if operation.type == "Identity":
            return name_of(operation.inputs[0])
        if operation.type == "Cast":
            (operand,) = operation.inputs
            if tf.bool in (tensor.dtype, operand.dtype):
                raise UnknownOperationError("Cast of booleans")
            return self._lines.converted(name_of(operand), tensor.dtype.name)
        if operation.type not in _NAMES:
            raise UnknownOperationError(operation.type)
        operands = [name_of(operand) for operand in operation.inputs]
        return self._lines.operation(_NAMES[operation.type], *operands)


def _is_scalar(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank == 0 and tensor.dtype in _DTYPES


def _key(tensor: tf.Tensor) -> tuple[int, str]:
    return id(tensor.graph), tensor.name
