"""Loops compiled by Numba as operations of TensorFlow, through its C interface for kernels.

Functions are found by their names (``tensorflow/c/ops.h``, ``kernels.h``, ``tf_tensor.h``); all
that they pass are addresses whose contents only they know.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import tensorflow as tf

from surefoot.engines import compiled

_HELPERS = """
def handle(context, share, length, variables):
    status = new_status()
    rows = (count_inputs(context) - 1) // (length + variables)
    first = count_inputs(context) - rows * length
    tensors = allocate((1 + rows * length) * WORD)
    get_input(context, 0, tensors, status)
    for place in range(rows * length):
        get_input(context, first + place, tensors + (1 + place) * WORD, status)
    table = allocate(rows * (length + 1) * WORD)
    for row in range(rows):
        here = table + row * (length + 1) * WORD
        for place in range(length):
            store(here, place, data_of(load(tensors, 1 + length * row + place)))
        store(here, length, size_of(load(tensors, 1 + length * row)))
    scalars = load(tensors, 0)
    run(share, length, data_of(scalars), size_of(scalars), table, rows, THREADS)
    for place in range(1 + rows * length):
        delete_tensor(load(tensors, place))
    release(table)
    release(tensors)
    delete_status(status)
    return 0
"""

_ADDRESS = ctypes.c_int64
_TEXT = ctypes.c_char_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "TF_NewStatus": (_ADDRESS,),
    "TF_DeleteStatus": (None, _ADDRESS),
    "TF_GetCode": (ctypes.c_int, _ADDRESS),
    "TF_Message": (_TEXT, _ADDRESS),
    "TF_NumInputs": (ctypes.c_int, _ADDRESS),
    "TF_GetInput": (None, _ADDRESS, ctypes.c_int, _ADDRESS, _ADDRESS),
    "TF_TensorData": (_ADDRESS, _ADDRESS),
    "TF_TensorElementCount": (_ADDRESS, _ADDRESS),
    "TF_DeleteTensor": (None, _ADDRESS),
    "TF_NewOpDefinitionBuilder": (_ADDRESS, _TEXT),
    "TF_OpDefinitionBuilderAddAttr": (None, _ADDRESS, _TEXT),
    "TF_OpDefinitionBuilderAddInput": (None, _ADDRESS, _TEXT),
    "TF_OpDefinitionBuilderSetIsStateful": (None, _ADDRESS, ctypes.c_bool),
    "TF_RegisterOpDefinition": (None, _ADDRESS, _ADDRESS),
    "TF_NewKernelBuilder": (_ADDRESS, _TEXT, _TEXT, _ADDRESS, _ADDRESS, _ADDRESS),
    "TF_RegisterKernelBuilder": (None, _TEXT, _ADDRESS, _ADDRESS),
}
"""What each function returns and takes."""


def is_available() -> bool:
    """Whether functions may be compiled, and TensorFlow has the interface."""
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


@functools.cache
def _helpers() -> dict[str, Any]:
    interface = _interface() or {}
    threads = tf.config.threading.get_intra_op_parallelism_threads() or compiled.cores()
    names = {
        "count_inputs": interface["TF_NumInputs"],
        "data_of": interface["TF_TensorData"],
        "delete_status": interface["TF_DeleteStatus"],
        "delete_tensor": interface["TF_DeleteTensor"],
        "get_input": interface["TF_GetInput"],
        "new_status": interface["TF_NewStatus"],
        "size_of": interface["TF_TensorElementCount"],
        "THREADS": threads,
    }
    return compiled.helpers(_HELPERS, names)


_registered: dict[str, Any] = {}


def operation(source: str, dtype: str, length: int, variables: int) -> str:
    """Register a loop as an operation, once; return the name of its type.

    The operation takes any number of rows of tensors, and writes into the first of each. Its
    inputs are the vector ``scalars`` in float64, the ``handles`` of all variables, by which
    TensorFlow knows what comes before and after, and ``tensors``, row after row. It has no
    results.

    Args:
        source: What to do with the tensors of a row; see `compiled.handler`.
        dtype: float32 or float64.
        length: How many tensors a row has.
        variables: How many of them, its first, belong to variables.

    Raises:
        RuntimeError: If TensorFlow refuses it.
    """
    call = f"handle(context, SHARE, {length}, {variables})"
    handler = f"def handler(kernel, context):\n    return {call}\n"
    name = f"SurefootLoop{compiled.digest(source, handler, dtype)}"
    if name not in _registered:
        interface = _interface()
        if interface is None:
            raise RuntimeError("TensorFlow's interface for kernels is not available.")
        function = compiled.handler(source, length, ("float64", dtype), handler, _helpers())
        _register(interface, name, tf.as_dtype(dtype), function.address)
        _registered[name] = function
    return name


def _register(interface: dict[str, Any], name: str, dtype: tf.DType, address: int) -> None:
    kind = {"float32": "float", "float64": "double"}[dtype.name]
    text = name.encode()
    status = interface["TF_NewStatus"]()
    try:
        definition = interface["TF_NewOpDefinitionBuilder"](text)
        interface["TF_OpDefinitionBuilderAddAttr"](definition, b"M: int >= 1")
        interface["TF_OpDefinitionBuilderAddAttr"](definition, b"N: int >= 1")
        for inputs in ("scalars: double", "handles: M * resource", f"tensors: N * {kind}"):
            interface["TF_OpDefinitionBuilderAddInput"](definition, inputs.encode())
        # It writes; without results it would not be run.
        interface["TF_OpDefinitionBuilderSetIsStateful"](definition, True)
        interface["TF_RegisterOpDefinition"](definition, status)
        _check(interface, status)
        kernel = interface["TF_NewKernelBuilder"](text, b"CPU", 0, address, 0)
        interface["TF_RegisterKernelBuilder"](text, kernel, status)
        _check(interface, status)
    finally:
        interface["TF_DeleteStatus"](status)


def _check(interface: dict[str, Any], status: int) -> None:
    if interface["TF_GetCode"](status):
        raise RuntimeError(interface["TF_Message"](status).decode())
