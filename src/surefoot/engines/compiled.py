"""Loops that Numba compiles, for backends to call as they call their own functions."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import os
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

_SHARE = """
def array(address, first, last):
    return carray(at(address + first * ITEM), last - first, real)

def share(block):
    prepared = prepare(carray(at(load(block, 0)), load(block, 1), scalar))
    if prepared is None:
        return 0
    table, start, stop = load(block, 2), load(block, 4), load(block, 5)
    for row in range(load(block, 3)):
        size = load(table, {width} * row + {length})
        first, last = max(start, 0), min(stop, size)
        if first < last:
            loop(prepared, {arrays})
        start -= size
        stop -= size
    return 0
"""
"""One thread's share of the numbers of all rows, counted on from row to row."""

_RUN = """
def run(share, length, scalars, count, table, rows, threads):
    total = 0
    for row in range(rows):
        total += load(table, (length + 1) * row + length)
    threads = max(min(threads, total // WORTH_A_THREAD), 1)
    blocks = allocate(threads * BLOCK)
    for thread in range(threads):
        block = blocks + thread * BLOCK
        store(block, 0, scalars)
        store(block, 1, count)
        store(block, 2, table)
        store(block, 3, rows)
        store(block, 4, total * thread // threads)
        store(block, 5, total * (thread + 1) // threads)
    for thread in range(1, threads):
        block = blocks + thread * BLOCK
        store(block, 7, create_thread(block + 6 * WORD, 0, share, block))
    call(share, blocks)
    for thread in range(1, threads):
        block = blocks + thread * BLOCK
        if load(block, 7) == 0:
            join_thread(load(block, 6), 0)
        else:
            call(share, block)
    release(blocks)
"""
"""Seven words of a block tell a thread what to do and who it is, the eighth whether it started."""

_WORTH_A_THREAD = 1 << 19
"""Numbers that take ten times as long as to start a thread."""

_WORD = ctypes.c_int64
_SIZE = ctypes.sizeof(_WORD)

_MATHEMATICS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "float32": np.float32,
    "float64": np.float64,
    "inf": np.inf,
    "log1p": np.log1p,
    "nan": np.nan,
    "sqrt": np.sqrt,
}

_OPTIONS = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""As C divides, and unseen by Python, which saves time to compile."""


class _Numba(NamedTuple):
    """Numba, and what reads and writes the memory of others in functions it compiles."""

    numba: ModuleType
    memory: dict[str, Any]


def is_available() -> bool:
    """Whether Numba is installed, and not switched off.

    A program that is exported to other processes must not call into this one: the environment
    variable SUREFOOT_NUMBA=0 leaves all to the backend.
    """
    return os.environ.get("SUREFOOT_NUMBA") != "0" and _numba() is not None


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def handler(
    loop: str, length: int, dtypes: tuple[str, str], source: str, names: dict[str, Any]
) -> Any:
    """Compile a function for a backend to call by its address.

    Args:
        loop: The definitions of the functions ``prepare`` of a vector of scalars, and ``loop`` of
            what that returned and of arrays, all of one size; nothing is done where it is None.
        length: Of how many arrays.
        dtypes: The dtype of the scalars, and that of the arrays.
        source: The definition of the function ``handler``, of words. ``SHARE`` is the address of
            what does a thread's share of the loop, for ``run``.
        names: What that calls: of `helpers`.

    Returns:
        Numba's function of C, whose ``address`` holds as long as it is kept.

    Raises:
        RuntimeError: If Numba is not available.
    """
    numba, memory = _require_numba()
    scalar, real = (np.dtype(dtype).type for dtype in dtypes)
    known: dict[str, Any] = dict(_MATHEMATICS)
    _define(known, numba, loop)
    known |= memory | names | {"carray": numba.carray}
    known |= {"scalar": scalar, "real": real, "ITEM": real().itemsize}
    arrays = ", ".join(
        f"array(load(table, {length + 1} * row + {place}), first, last)" for place in range(length)
    )
    places = {"length": length, "width": length + 1, "arrays": arrays}
    _define(known, numba, _SHARE.format(**places), called_by_address="share")
    known["SHARE"] = known["share"].address
    _define(known, numba, source, called_by_address="handler")
    return known["handler"]


def digest(*parts: str) -> str:
    """A name for what is made of these parts that is the same in every process."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def helpers(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """What all handlers of a backend call, compiled once for all of them.

    Args:
        source: The definition of the function ``handle``, of words, and of others that it calls.
            They may use ``load``, ``store``, ``allocate`` and ``release`` for memory, which take
            Numba a tenth of the time that NumPy's arrays would, and ``run``: of the address of a
            share, how many arrays it takes, the address and the size of the scalars, the address
            of a table, how many rows that has, and how many threads may share the work. A row of
            the table has the addresses of the arrays, and their size.
        names: What else they use: constants, and functions of C.

    Raises:
        RuntimeError: If Numba is not available.
    """
    numba, memory = _require_numba()
    known = memory | names | _threads(numba)
    known |= {"WORD": _SIZE, "BLOCK": 8 * _SIZE, "WORTH_A_THREAD": _WORTH_A_THREAD}
    _define(known, numba, _RUN)
    _define(known, numba, source, called_by_address="handle")
    # By its address, too, or Numba would take its code apart again for each handler.
    return {"handle": known["handle"].ctypes, "compiled_handle": known["handle"]}


def _require_numba() -> _Numba:
    available = _numba()
    if available is None:
        raise RuntimeError("Numba is not available.")
    return available


def _define(
    names: dict[str, Any],
    numba: ModuleType,
    source: str,
    called_by_address: str = "",
) -> None:
    """Compile the functions of a source; put them among the names that they know."""
    before = set(names) | {"__builtins__"}
    exec(source, names)  # made by surefoot, of its own rule
    word = numba.types.int64
    for name in names.keys() - before - {called_by_address}:
        # As XLA: a product and a sum may be rounded once, unless there is time to be exact.
        contracted = {"contract"} if name == "loop" else False
        names[name] = numba.njit(fastmath=contracted, **_OPTIONS)(names[name])
    if called_by_address:
        function = names[called_by_address]
        signature = word(*[word] * function.__code__.co_argcount)
        names[called_by_address] = numba.cfunc(signature)(function)


def _threads(numba: ModuleType) -> dict[str, Any]:
    """How to start a thread and to wait for it; where there is no way, starting one fails."""
    try:
        library = ctypes.CDLL(None)
        create, join = library.pthread_create, library.pthread_join
    except (AttributeError, OSError, TypeError):
        return {
            "create_thread": numba.njit(lambda handle, attributes, function, block: 1),
            "join_thread": numba.njit(lambda handle, result: 0),
        }
    create.restype, create.argtypes = ctypes.c_int, [_WORD] * 4
    join.restype, join.argtypes = ctypes.c_int, [_WORD] * 2
    return {"create_thread": create, "join_thread": join}


@functools.cache
def _numba() -> _Numba | None:
    """Numba, if it is installed for this NumPy and may compile."""
    try:
        numba = importlib.import_module("numba")
        extending = importlib.import_module("numba.extending")
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None
    llvm = importlib.import_module("llvmlite.ir")
    types, word = numba.types, llvm.IntType(64)

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

    @extending.intrinsic
    def call(typing: Any, address: Any, argument: Any) -> Any:
        """Call the function at an address with a word."""
        del typing, address, argument

        def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            address, argument = arguments
            function = llvm.FunctionType(word, [word])
            return builder.call(builder.inttoptr(address, function.as_pointer()), [argument])

        return types.int64(types.int64, types.int64), generate

    memory = {"load": load, "store": store, "at": at, "call": call}
    for name, function in (
        ("allocate", ctypes.pythonapi.PyMem_RawMalloc),
        ("release", ctypes.pythonapi.PyMem_RawFree),
    ):
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        memory[name] = ctypes.CFUNCTYPE(_WORD, _WORD)(address)
    return _Numba(numba, memory)
