"""Loops on TensorFlow, in place, as operations of the graph of a step.

A variable's memory belongs to it alone only while nobody holds a value read from it. TensorFlow
sees to that before it updates rows of a variable, if need be by a copy; so no rows are updated,
and the tensor read next shares the memory with the variable and with nobody else. The loop writes
into it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from surefoot.engines import tensorflow_foreign
from surefoot.engines.loops import Elementwise, Lines, Row, UnknownOperationError
from surefoot.rule import Array
from surefoot.slots import value_of

_NAMES = {
    "Abs": "abs",
    "AddV2": "add",
    "Equal": "eq",
    "Greater": "gt",
    "GreaterEqual": "ge",
    "Less": "lt",
    "LessEqual": "le",
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


_UPDATES_OF_ROWS: dict[int, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    1: (
        tf.raw_ops.ResourceSparseApplyProximalGradientDescent,
        ("var",),
        ("alpha", "l1", "l2"),
    ),
    2: (
        tf.raw_ops.ResourceSparseApplyMomentum,
        ("var", "accum"),
        ("lr", "momentum"),
    ),
    3: (
        tf.raw_ops.ResourceSparseApplyAdadelta,
        ("var", "accum", "accum_update"),
        ("lr", "rho", "epsilon"),
    ),
    4: (
        tf.raw_ops.ResourceSparseApplyCenteredRMSProp,
        ("var", "mg", "ms", "mom"),
        ("lr", "rho", "momentum", "epsilon"),
    ),
}
"""Operations that update rows of some variables together; what they call these and their factors.

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
    possible = (
        not tf.executing_eagerly()
        and not tf.distribute.has_strategy()
        and not _xla_takes_parts()
        and tensorflow_foreign.is_available()
    )
    return [possible and _may_serve(row) for row in rows]


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
        and all(isinstance(t, tf.Variable) and _is_here(t.device) for t in tensors)
    )


def _is_here(device: str) -> bool:
    return "/job:localhost/" in device and "/device:CPU:" in device


def run(function: Elementwise, rows: list[Row], *, condition: Array | None = None) -> bool:
    """Give each row's variables their new values, where ``condition`` holds: see `Looping`."""
    dtype = value_of(rows[0].changed[0]).dtype
    length = len(rows[0].variables) + len(rows[0].given)
    traced = tf.function(function, autograph=False).get_concrete_function(
        *[tf.TensorSpec((), dtype)] * length
    )
    lines = Lines(length, conditional=condition is not None)
    try:
        source = lines.source(_written_down(traced.graph, lines, dtype))
    except UnknownOperationError:
        return False
    scalars = [*([] if condition is None else [condition]), *traced.captured_inputs]
    vector = tf.stack([tf.cast(s, dtype) for s in scalars]) if scalars else tf.zeros([1], dtype)
    with tf.device(value_of(rows[0].changed[0]).device):
        operation = tensorflow_foreign.operation(source, dtype.name, length, len(rows[0].changed))
        _call(operation, vector, rows)
    return True


def _call(operation: str, scalars: Array, rows: list[Row]) -> None:
    handles: list[tf.Tensor] = []
    tensors: list[tf.Tensor] = []
    for row in rows:
        changed = [value_of(v) for v in row.changed]
        _part_from_readers(changed)
        handles += [v.handle for v in changed]
        tensors += [tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in changed]
        tensors += [tf.convert_to_tensor(value_of(v)) for v in row.read]
        tensors += row.given
    counts = {"M": len(handles), "N": len(tensors)}
    tf.compat.v1.get_default_graph().create_op(
        operation,
        [scalars, *handles, *tensors],
        [],
        name="loop",
        attrs={name: tf.compat.v1.AttrValue(i=count) for name, count in counts.items()},
    )


def _part_from_readers(variables: list[tf.Variable]) -> None:
    """Let nobody else hold the memory of variables of one shape."""
    update, handles, factors = _UPDATES_OF_ROWS[len(variables)]
    dtype = variables[0].dtype
    update(
        **dict(zip(handles, (v.handle for v in variables), strict=True)),
        **dict.fromkeys(factors, tf.zeros([], dtype)),
        grad=tf.zeros([0, *variables[0].shape[1:]], dtype),
        indices=tf.zeros([0], tf.int32),
    )
    # From an update of rows on, reading makes copies: not for us, nor for the model's next pass.
    for variable in variables:
        tf.raw_ops.DisableCopyOnRead(resource=variable.handle)


def _written_down(graph: Any, lines: Lines, dtype: tf.DType) -> list[str]:
    """Write a traced function down; return its results."""
    names: dict[str, str] = {}
    to_be_cast: dict[str, str] = {}
    for place, tensor in enumerate(graph.inputs):
        if place < len(lines.numbers):
            names[tensor.name] = lines.numbers[place]
        else:
            # The vector has scalars of another dtype cast already.
            known = names if tensor.dtype in (dtype, tf.bool) else to_be_cast
            known[tensor.name] = lines.scalar(flag=tensor.dtype == tf.bool)
    for operation in graph.get_operations():
        if operation.type != "Placeholder":
            (result,) = operation.outputs
            names[result.name] = _line(operation, names, to_be_cast, lines, dtype)
    return [names[tensor.name] for tensor in graph.outputs]


def _line(
    operation: tf.Operation,
    names: dict[str, str],
    to_be_cast: dict[str, str],
    lines: Lines,
    dtype: tf.DType,
) -> str:
    (result,) = operation.outputs
    operands = [tensor.name for tensor in operation.inputs]
    if result.shape.rank != 0 or result.dtype not in (dtype, tf.bool):
        raise UnknownOperationError(f"{operation.type} of {result.shape} {result.dtype}")
    if operation.type == "Const":
        value = tf.get_static_value(result)
        return lines.constant(value, flag=result.dtype == tf.bool)
    if operation.type == "Cast" and operands[0] in to_be_cast:
        return to_be_cast[operands[0]]
    if any(operand not in names for operand in operands):
        raise UnknownOperationError(f"{operation.type} of another dtype")
    if operation.type == "Identity":
        return names[operands[0]]
    name = _NAMES.get(operation.type, operation.type)
    return lines.operation(name, *(names[operand] for operand in operands))
