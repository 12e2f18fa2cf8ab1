"""Compiled loops on TensorFlow, in place, called by XLA through its foreign function interface.

XLA owns what a loop writes: it holds the locks of the variables while a step runs, and where
another tensor shares the buffer of one, it works on a copy, which the variable then takes over.
The loop is called from a small program in StableHLO, the form in which XLA takes programs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from surefoot.engines import loops
from surefoot.engines.compiler import loop, xla
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.loops import Columns, Selection, StepPath
from surefoot.engines.tensorflow import jit_compile
from surefoot.rule.rounding import key_halves
from surefoot.rule.update import Array
from surefoot.variables.variable import value_of

_ELEMENTS = {"bfloat16": "bf16", "float32": "f32", "float64": "f64", "int16": "i16"}


def obstacle(selection: Selection | None = None) -> Obstacle | None:
    """Why no loop can run: see `LoopRunner`. TensorFlow's XLA has to be able to call it."""
    return loop.obstacle("tensorflow", _unknown_interface)


def _unknown_interface() -> str | None:
    interface = _interface()
    return interface if isinstance(interface, str) else None


def step_path() -> StepPath:
    """How a step is made: see `LoopRunner`."""
    variable = keras.Variable(0.0, dtype="float32")
    return loops.step_path(
        obstacle(),
        others="fused kernel, compiled by XLA",
        served=select(["float32"], Columns([[variable]]), Columns(), [0]).served[0],
        device=value_of(variable).device,
        elsewhere="fused kernel, compiled by XLA",
    )


def select(
    stored: Sequence[str], variables: Columns, tensors: Columns, keys: Sequence[int]
) -> Selection:
    """Rows of dense tensors in the memory of this process, that are alike: see `LoopRunner`."""
    count = len(variables)
    rows = [
        [*map(value_of, row[:count]), *row[count:]]
        for row in zip(*variables, *tensors, strict=True)
    ]
    served = [
        all(isinstance(t, tf.Variable) and _is_here(t) for t in row[:count])
        and not any(isinstance(t, tf.IndexedSlices) for t in row[count:])
        and row[0].shape.is_fully_defined()
        and all(t.shape == row[0].shape for t in row)
        and [t.dtype.name for t in row] == list(stored)
        for row in rows
    ]
    chosen = [
        (row[:count], row[count:], key) for row, key, s in zip(rows, keys, served, strict=True) if s
    ]
    return Selection(served, chosen)


def _is_here(variable: tf.Variable) -> bool:
    return "/job:localhost/" in variable.device and "/device:CPU:" in variable.device


def run(body: Loop, selection: Selection, scalars: Sequence[Array]) -> None:
    """Call a loop on what was selected: see `LoopRunner`."""
    interface = _interface()
    assert not isinstance(interface, str)
    rows = selection.arrays
    body = body.also_returning(len(rows[0][0]))
    threads = tf.config.threading.get_intra_op_parallelism_threads() or loop.cores()
    name = _HANDLERS.name_for(body, interface.version, threads)
    shapes = tuple(tuple(variables[0].shape) for variables, *_ in rows)
    vector = tf.stack([tf.cast(s, body.dtype) for s in scalars])
    if body.keyed:
        halves = [half for *_, key in rows for half in key_halves(key)]
        vector = tf.concat([vector, tf.constant(halves, body.dtype)], 0)
    handles = [v.handle for variables, *_ in rows for v in variables]
    tensors = [tensor for _, given, _ in rows for tensor in given]
    if jit_compile.is_traced_for_xla():
        _call(name, body, shapes, vector, handles, tensors)
        return
    with tf.device(rows[0][0][0].device):
        _compiled(name, body, shapes)(vector, *handles, *tensors)


@functools.cache
def _compiled(name: str, body: Loop, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """The call of a loop compiled by XLA, for variables given as handles.

    One for all optimizers that need the same: XLA never forgets what it has compiled.
    """
    count = len(shapes) * body.outputs

    def call(vector: tf.Tensor, *given: tf.Tensor) -> None:
        _call(name, body, shapes, vector, list(given[:count]), list(given[count:]))

    with tf.init_scope():  # not a part of what is being traced
        return tf.function(call, jit_compile=True, autograph=False).get_concrete_function(
            tf.TensorSpec([_vector_size(body, len(shapes))], body.dtype),
            *[tf.TensorSpec([], tf.resource)] * count,
            *[tf.TensorSpec(s, dtype) for s in shapes for dtype in body.stored[body.outputs :]],
        )


def _vector_size(body: Loop, rows: int) -> int:
    return body.scalars + int(body.conditional) + (2 * rows if body.keyed else 0)


def _call(
    name: str,
    body: Loop,
    shapes: tuple[tuple[int, ...], ...],
    vector: tf.Tensor,
    handles: list[tf.Tensor],
    tensors: list[tf.Tensor],
) -> None:
    """Read the variables, row after row, call the loop, and assign what it returns."""
    from tensorflow.compiler.tf2xla.python import xla as operations

    dtypes = list(map(tf.as_dtype, body.stored[: body.outputs]))
    of_row = len(handles) // len(shapes)
    rest = len(tensors) // len(shapes)
    values = [
        value
        for row in range(len(shapes))
        for value in [
            *map(_read, handles[of_row * row : of_row * (row + 1)], dtypes),
            *tensors[rest * row : rest * (row + 1)],
        ]
    ]
    results = operations.call_module(
        [vector, *values],
        version=operations.call_module_maximum_supported_version(),
        module=_program(name, body, shapes),
        Tout=dtypes * len(shapes),
        Sout=[shape for shape in shapes for _ in range(body.outputs)],
        platforms=["CPU"],
    )
    for handle, value in zip(handles, results, strict=True):
        _assign(handle, value)


def _program(name: str, body: Loop, shapes: tuple[tuple[int, ...], ...]) -> str:
    """A program in StableHLO that calls a handler, with results in the memory of arguments."""
    scalars = _kind([_vector_size(body, len(shapes))], body.dtype)
    arguments = [scalars, *(_kind(shape, dtype) for shape in shapes for dtype in body.stored)]
    results = [_kind(shape, dtype) for shape in shapes for dtype in body.stored[: body.outputs]]
    declared = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(arguments))
    given = ", ".join(f"%a{i}" for i in range(len(arguments)))
    several = len(results) > 1
    aliases = ", ".join(
        "#stablehlo.output_operand_alias<output_tuple_indices = "
        f"[{body.outputs * row + place if several else ''}], "
        f"operand_index = {1 + body.inputs * row + place}, operand_tuple_indices = []>"
        for row in range(len(shapes))
        for place in range(body.outputs)
    )
    returned = ", ".join(f"%r#{i}" for i in range(len(results))) if several else "%r"
    kinds_of_results = ", ".join(results)
    return f"""module {{
  func.func public @main({declared}) -> ({kinds_of_results}) {{
    %r{f":{len(results)}" if several else ""} = stablehlo.custom_call @{name}({given}) {{
      api_version = 4 : i32, backend_config = {{}}, output_operand_aliases = [{aliases}]
    }} : ({", ".join(arguments)}) -> ({kinds_of_results})
    return {returned} : {kinds_of_results}
  }}
}}"""


def _kind(shape: Sequence[int], dtype: str) -> str:
    return "tensor<" + "".join(f"{size}x" for size in shape) + f"{_ELEMENTS[dtype]}>"


# Made directly: the checks of TensorFlow's own functions take longer than to make an operation.


def _read(handle: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    (value,) = _operation("ReadVariableOp", [handle], [dtype], dtype).outputs
    return value


def _assign(handle: tf.Tensor, value: tf.Tensor) -> None:
    _operation("AssignVariableOp", [handle, value], [], value.dtype)


def _operation(
    kind: str, inputs: list[tf.Tensor], results: list[tf.DType], dtype: tf.DType
) -> tf.Operation:
    attributes = {"dtype": tf.compat.v1.AttrValue(type=dtype.as_datatype_enum)}
    graph = tf.compat.v1.get_default_graph()
    return graph.create_op(kind, inputs, results, attrs=attributes)


class _Interface:
    """XLA's foreign function interface, as TensorFlow's library has it (xla/ffi/api/c_api.h)."""

    def __init__(self, address: int) -> None:
        # Behind its size, an extension, and its version in three integers, and one more integer,
        # come the functions: the fourth registers handlers.
        fields = (ctypes.c_int64 * 10).from_address(address)
        self.version = fields[4] & 0xFFFFFFFF, fields[4] >> 32
        self._register = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(fields[9])

    def register(self, name: str, address: int) -> None:
        """Register a handler for CPUs.

        Raises:
            RuntimeError: If XLA refuses it.
        """
        given, platform = (ctypes.create_string_buffer(s.encode()) for s in (name, "Host"))
        arguments = (ctypes.c_int64 * 11)(
            *(84, 0),  # the size of what is read, no extension
            *(ctypes.addressof(given), len(name), ctypes.addressof(platform), len("Host")),
            *(0, 0, 0, address),  # nothing is done at other stages than the execution
            0,
        )
        if self._register(ctypes.addressof(arguments)):
            raise RuntimeError(f"XLA refuses the handler {name}.")


@functools.cache
def _interface() -> _Interface | str:
    """The interface, or why it cannot be used."""
    for path in sorted(Path(tf.sysconfig.get_lib()).glob("libtensorflow_cc.*")):
        try:
            function = ctypes.CDLL(str(path))["_ZN3xla3ffi12GetXlaFfiApiEv"]
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_void_p
        interface = _Interface(function())
        return xla.unknown_version("TensorFlow", interface.version) or interface
    return "this TensorFlow does not hand out XLA's foreign function interface"


def _register(name: str, address: int) -> None:
    interface = _interface()
    assert not isinstance(interface, str)
    interface.register(name, address)


_HANDLERS = xla.Handlers(_register)
