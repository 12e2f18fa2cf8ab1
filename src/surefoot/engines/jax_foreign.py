"""Loops compiled by Numba, called by XLA through its foreign function interface.

XLA passes a handler one pointer, to a frame whose layout is part of its binary interface
(``xla/ffi/api/c_api.h``, which every JAX brings along). Within a major version fields are only
ever added behind the known ones.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

_KNOWN_MAJOR_VERSION = 0

# Places of fields, in words of eight bytes.
_FRAME_EXTENSION, _FRAME_ARGUMENTS, _FRAME_COUNT, _FRAME_RESULTS = 1, 9, 12, 14
_EXTENSION_KIND, _EXTENSION_METADATA = 1, 3
_METADATA_VERSION, _METADATA_TRAITS = 3, 4
_BUFFER_DATA, _BUFFER_RANK, _BUFFER_SIZES = 3, 4, 5

_HANDLER = """
def handler(frame):
    if is_question(frame):
        return 0
    arguments, results = load(frame, {arguments}), load(frame, {results})
    scalars = tensor(arguments, 0, real)
    for row in range(load(frame, {count}) // {changed}):
        loop(scalars, {tensors})
    return 0
"""


class _Numba(NamedTuple):
    """Numba, and what handlers are made of."""

    numba: ModuleType
    functions: dict[str, Any]


def is_available() -> bool:
    """Whether Numba is installed, XLA's interface known, and neither of them switched off.

    A program that is exported to other processes must not call into this one: the environment
    variable SUREFOOT_NUMBA=0 leaves all to XLA.
    """
    switched_off = os.environ.get("SUREFOOT_NUMBA") == "0"
    known = _interface_version()[0] == _KNOWN_MAJOR_VERSION
    return not switched_off and known and _numba() is not None


@functools.cache
def _interface_version() -> tuple[int, int]:
    """The major and minor version of the interface of the JAX that is installed."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text("utf-8")
    major, minor = (
        re.search(rf"define XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR")
    )
    return (int(major[1]), int(minor[1])) if major and minor else (-1, -1)


@functools.cache
def _numba() -> _Numba | None:
    try:
        numba = importlib.import_module("numba")
        extending = importlib.import_module("numba.extending")
    except ImportError:  # not installed, or not for this NumPy
        return None
    if numba.config.DISABLE_JIT:
        return None
    llvm = importlib.import_module("llvmlite.ir")
    types, word = numba.types, llvm.IntType(64)

    major, minor = _interface_version()
    version = minor << 32 | major

    def pointer(builder: Any, address: Any, place: Any) -> Any:
        return builder.gep(builder.inttoptr(address, word.as_pointer()), [place])

    @extending.intrinsic
    def load(typing: Any, address: Any, place: Any) -> Any:
        """The word at a place behind an address."""
        del typing, address, place

        def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            return builder.load(pointer(builder, *arguments))

        return types.int64(types.int64, types.int64), generate

    @extending.intrinsic
    def store(typing: Any, address: Any, place: Any, value: Any) -> Any:
        """Write the word at a place behind an address."""
        del typing, address, place, value

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            address, place, value = arguments
            builder.store(value, pointer(builder, address, place))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    @extending.intrinsic
    def at(typing: Any, address: Any) -> Any:
        """An address as a pointer."""
        del typing, address

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.voidptr(types.int64), generate

    @numba.njit
    def is_question(frame):  # type: ignore[no-untyped-def]
        """Answer XLA's question, put before the first call, which version this is for."""
        extension = load(frame, _FRAME_EXTENSION)
        if extension == 0 or load(extension, _EXTENSION_KIND) & 0xFFFFFFFF != 1:
            return False
        metadata = load(extension, _EXTENSION_METADATA)
        store(metadata, _METADATA_VERSION, version)
        store(metadata, _METADATA_TRAITS, load(metadata, _METADATA_TRAITS) & ~0xFFFFFFFF)
        return True

    @numba.njit
    def tensor(buffers, place, real):  # type: ignore[no-untyped-def]
        """The numbers of a buffer, one behind the other."""
        buffer = load(buffers, place)
        size = 1
        for axis in range(load(buffer, _BUFFER_RANK)):
            size *= load(load(buffer, _BUFFER_SIZES), axis)
        return numba.carray(at(load(buffer, _BUFFER_DATA)), size, real)

    return _Numba(numba, {"load": load, "is_question": is_question, "tensor": tensor})


_registered: dict[str, Any] = {}


def target(source: str, dtype: str, arguments: int, changed: int, kept: Iterable[int]) -> str:
    """Register a loop with XLA, once; return the name to call it by.

    A call has any number of rows of tensors of one shape: its arguments are the vector of
    scalars and row after row, its results what changes of each row.

    Args:
        source: The definition of a function ``loop`` of the scalars, the arguments of a row,
            and new tensors for those that are kept, all one-dimensional; ``real`` is their dtype
            in it, ``sqrt`` the square root.
        dtype: float32 or float64.
        arguments: The length of a row.
        changed: How many tensors of a row, its first, change.
        kept: Which of them are not overwritten.
    """
    tensors = [f"tensor(arguments, 1 + {arguments} * row + {i}, real)" for i in range(arguments)]
    tensors += [f"tensor(results, {changed} * row + {i}, real)" for i in sorted(kept)]
    handler = _HANDLER.format(
        arguments=_FRAME_ARGUMENTS,
        count=_FRAME_COUNT,
        results=_FRAME_RESULTS,
        changed=changed,
        tensors=", ".join(tensors),
    )
    # In a name that stays the same: XLA's cache of compiled programs knows only the name.
    digest = hashlib.sha256(f"{source}{handler}{dtype}".encode()).hexdigest()
    name = f"surefoot_{digest[:16]}"
    if name not in _registered:
        _registered[name] = _compiled(source, handler, dtype)
        address = ctypes.CFUNCTYPE(None)(_registered[name].address)
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
    return name


def _compiled(source: str, handler: str, dtype: str) -> Any:
    found = _numba()
    if found is None:
        raise RuntimeError("Numba is not available.")
    numba, functions = found
    real = np.dtype(dtype).type
    names = functions | {"real": real, "sqrt": np.sqrt, "inf": np.inf, "nan": np.nan}
    exec(source, names)  # made by surefoot, of its own rule
    # As XLA: a product and a sum may be rounded once.
    names["loop"] = numba.njit(fastmath={"contract"}, error_model="numpy")(names["loop"])
    exec(handler, names)
    return numba.cfunc(numba.types.int64(numba.types.int64))(names["handler"])
