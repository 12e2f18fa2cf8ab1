"""Compiled loops as operations of TensorFlow, through its C interface for kernels.

Functions are found by their names (``tensorflow/c/ops.h``, ``kernels.h``, ``tf_tensor.h``); all
that they pass are addresses whose contents only they know.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from surefoot.engines import compiled
from surefoot.engines.compiled import Loop
from surefoot.engines.language import WORD, Foreign
from surefoot.engines.machine_code import MachineCode

_INPUTS = """
def inputs_of(context, count, status):
    tensors = allocate((1 + count) * WORD)
    first = count_inputs(context) - count
    get_input(context, 0, tensors, status)
    for place in range(count):
        get_input(context, first + place, tensors + (1 + place) * WORD, status)
    return tensors

def let_go_of(tensors, count, status):
    for place in range(1 + count):
        delete_tensor(load(tensors, place))
    release(tensors)
    delete_status(status)
"""
"""The vector that comes first and the tensors that come last; handles are between them."""

_LOOP = """
def handler(kernel, context):
    status = new_status()
    rows = (count_inputs(context) - 1) // (ARRAYS + VARIABLES)
    tensors = inputs_of(context, rows * ARRAYS, status)
    table = allocate(rows * (ARRAYS + 1) * WORD)
    for row in range(rows):
        here = table + row * (ARRAYS + 1) * WORD
        for place in range(ARRAYS):
            store(here, place, data_of(load(tensors, 1 + ARRAYS * row + place)))
        store(here, ARRAYS, size_of(load(tensors, 1 + ARRAYS * row)))
    run(data_of(load(tensors, 0)), table, rows, THREADS)
    release(table)
    let_go_of(tensors, rows * ARRAYS, status)
    return 0
"""

_NUMBERS = """
def handler(kernel, context):
    status = new_status()
    rows = (count_inputs(context) - 1) // 2
    tensors = inputs_of(context, rows, status)
    addresses = allocate(rows * WORD)
    for row in range(rows):
        store(addresses, row, data_of(load(tensors, 1 + row)))
    shape = allocate(2 * WORD)
    store(shape, 0, rows)
    store(shape, 1, COUNT)
    bytes = rows * COUNT * SIZE
    result = allocate_output(context, 0, FLOAT32, shape, 2, bytes, status)
    gather(addresses, data_of(load(tensors, 0)), rows, COUNT, data_of(result))
    delete_tensor(result)
    release(shape)
    release(addresses)
    let_go_of(tensors, rows, status)
    return 0
"""

_TEXT = ctypes.c_char_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "TF_NewStatus": (WORD,),
    "TF_DeleteStatus": (None, WORD),
    "TF_GetCode": (ctypes.c_int, WORD),
    "TF_Message": (_TEXT, WORD),
    "TF_NumInputs": (ctypes.c_int, WORD),
    "TF_GetInput": (None, WORD, ctypes.c_int, WORD, WORD),
    "TF_TensorData": (WORD, WORD),
    "TF_TensorElementCount": (WORD, WORD),
    "TF_DeleteTensor": (None, WORD),
    "TF_AllocateOutput": (
        WORD,
        *(WORD, ctypes.c_int, ctypes.c_int, WORD, ctypes.c_int, WORD, WORD),
    ),
    "TF_NewOpDefinitionBuilder": (WORD, _TEXT),
    "TF_OpDefinitionBuilderAddAttr": (None, WORD, _TEXT),
    "TF_OpDefinitionBuilderAddInput": (None, WORD, _TEXT),
    "TF_OpDefinitionBuilderAddOutput": (None, WORD, _TEXT),
    "TF_OpDefinitionBuilderSetIsStateful": (None, WORD, ctypes.c_bool),
    "TF_RegisterOpDefinition": (None, WORD, WORD),
    "TF_NewKernelBuilder": (WORD, _TEXT, _TEXT, WORD, WORD, WORD),
    "TF_RegisterKernelBuilder": (None, _TEXT, WORD, WORD),
}
"""What each function returns and takes."""


def is_available() -> bool:
    """Whether loops can be compiled, and TensorFlow has the interface."""
    return compiled.is_available() and _interface() is not None


@functools.cache
def _interface() -> dict[str, Any] | None:
    """The functions of the interface by name; None where one is missing."""
    for path in sorted(Path(tf.sysconfig.get_lib()).glob("libtensorflow_framework.*")):
        try:
            library = ctypes.CDLL(str(path))
            functions = {name: getattr(library, name) for name in _SIGNATURES}
        except (OSError, AttributeError):
            continue
        for name, (result, *arguments) in _SIGNATURES.items():
            functions[name].restype, functions[name].argtypes = result, arguments
        return functions
    return None


_CALLED = {
    "allocate_output": "TF_AllocateOutput",
    "count_inputs": "TF_NumInputs",
    "data_of": "TF_TensorData",
    "delete_status": "TF_DeleteStatus",
    "delete_tensor": "TF_DeleteTensor",
    "get_input": "TF_GetInput",
    "new_status": "TF_NewStatus",
    "size_of": "TF_TensorElementCount",
}
"""What a handler calls, by TensorFlow's names."""

_registered: dict[str, MachineCode] = {}


def operation(loop: Loop, dtype: str, variables: int) -> str:
    """Register a loop as an operation, once; return the name of its type.

    The operation takes any number of rows of tensors, and writes into the first of each. Its
    inputs are the vector ``scalars`` in float64, the ``handles`` of all variables, by which
    TensorFlow knows what comes before and after, and ``tensors``, row after row. It has no
    results.

    Args:
        loop: What to do with the tensors of a row.
        dtype: float32 or float64.
        variables: How many of them, its first, belong to variables.

    Raises:
        RuntimeError: If TensorFlow refuses it.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads() or compiled.cores()
    constants = {"VARIABLES": variables, "THREADS": threads}
    kind = {"float32": "float", "float64": "double"}[dtype]
    source = _INPUTS + _LOOP
    return _registered_once(
        f"SurefootLoop{compiled.digest(loop, source, dtype, constants)}",
        lambda foreign: compiled.handler(loop, source, constants, foreign),
        Signature("scalars: double", f"tensors: N * {kind}"),
    )


def numbers(count: int) -> str:
    """Register what reads ``count`` numbers of variables in float32; return the name of its type.

    Its inputs are the ``strides`` between the numbers of each, and the variables' ``handles`` and
    ``tensors``; its result has a row for each.

    Raises:
        RuntimeError: If TensorFlow refuses it.
    """
    source = compiled.GATHER + _INPUTS + _NUMBERS
    constants = {"COUNT": count, "FLOAT32": tf.float32.as_datatype_enum, "SIZE": tf.float32.size}
    return _registered_once(
        f"SurefootNumbers{compiled.digest(source, constants)}",
        lambda foreign: compiled.with_memory(source, constants, foreign),
        Signature("strides: int64", "tensors: N * float", "numbers: float"),
    )


class Signature(NamedTuple):
    """What an operation takes besides handles of variables, and what comes out, if anything."""

    vector: str
    tensors: str
    result: str = ""


def _registered_once(
    name: str, compile_with: Callable[[dict[str, Foreign]], MachineCode], signature: Signature
) -> str:
    if name not in _registered:
        interface = _interface()
        if interface is None:
            raise RuntimeError("TensorFlow's interface for kernels is not available.")
        code = compile_with({ours: Foreign.of(interface[its]) for ours, its in _CALLED.items()})
        _register(interface, name.encode(), signature, code.address("handler"))
        _registered[name] = code
    return name


def _register(interface: dict[str, Any], name: bytes, signature: Signature, address: int) -> None:
    status = interface["TF_NewStatus"]()
    try:
        definition = interface["TF_NewOpDefinitionBuilder"](name)
        interface["TF_OpDefinitionBuilderAddAttr"](definition, b"M: int >= 1")
        interface["TF_OpDefinitionBuilderAddAttr"](definition, b"N: int >= 1")
        for inputs in (signature.vector, "handles: M * resource", signature.tensors):
            interface["TF_OpDefinitionBuilderAddInput"](definition, inputs.encode())
        if signature.result:
            interface["TF_OpDefinitionBuilderAddOutput"](definition, signature.result.encode())
        # What it writes TensorFlow does not see; without results it would not be run.
        interface["TF_OpDefinitionBuilderSetIsStateful"](definition, True)
        interface["TF_RegisterOpDefinition"](definition, status)
        _check(interface, status)
        kernel = interface["TF_NewKernelBuilder"](name, b"CPU", 0, address, 0)
        interface["TF_RegisterKernelBuilder"](name, kernel, status)
        _check(interface, status)
    finally:
        interface["TF_DeleteStatus"](status)


def _check(interface: dict[str, Any], status: int) -> None:
    if interface["TF_GetCode"](status):
        raise RuntimeError(interface["TF_Message"](status).decode())
