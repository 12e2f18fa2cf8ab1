"""Compiled loops, called by XLA through its foreign function interface.

XLA passes a handler one pointer, to a frame whose layout is part of its binary interface
(``xla/ffi/api/c_api.h``, which every JAX brings along). Within a major version fields are only
ever added behind the known ones.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from surefoot.engines import compiled
from surefoot.engines.compiled import Loop
from surefoot.engines.machine_code import MachineCode

_KNOWN_MAJOR_VERSION = 0

_PLACES = {
    "FRAME_EXTENSION": 1,
    "FRAME_ARGUMENT_COUNT": 7,
    "FRAME_ARGUMENTS": 9,
    "FRAME_RESULT_COUNT": 12,
    "FRAME_RESULTS": 14,
    "EXTENSION_KIND": 1,
    "EXTENSION_METADATA": 3,
    "METADATA_VERSION": 3,
    "METADATA_TRAITS": 4,
    "BUFFER_DATA": 3,
    "BUFFER_RANK": 4,
    "BUFFER_SIZES": 5,
}
"""Where the fields are, in words of eight bytes."""

_HELPERS = """
def is_question(frame):
    extension = load(frame, FRAME_EXTENSION)
    if extension == 0:
        return 0
    if load(extension, EXTENSION_KIND) & 0xFFFFFFFF != 1:
        return 0
    metadata = load(extension, EXTENSION_METADATA)
    store(metadata, METADATA_VERSION, VERSION)
    store(metadata, METADATA_TRAITS, load(metadata, METADATA_TRAITS) & ~0xFFFFFFFF)
    return 1

def size_of(buffer):
    size = 1
    for axis in range(load(buffer, BUFFER_RANK)):
        size *= load(load(buffer, BUFFER_SIZES), axis)
    return size

def data_of(buffers, place):
    return load(load(buffers, place), BUFFER_DATA)
"""
"""Before the first call XLA puts a question: which version of the interface this is for."""

_LOOP = """
def handler(frame):
    if is_question(frame) == 1:
        return 0
    arguments, results = load(frame, FRAME_ARGUMENTS), load(frame, FRAME_RESULTS)
    rows = load(frame, FRAME_RESULT_COUNT) // CHANGED
    table = allocate(rows * (ARRAYS + 1) * WORD)
    for row in range(rows):
        here = table + row * (ARRAYS + 1) * WORD
        for place in range(LENGTH):
            store(here, place, data_of(arguments, 1 + LENGTH * row + place))
        behind = LENGTH
        for place in range(CHANGED):
            if KEPT >> place & 1 == 1:
                store(here, behind, data_of(results, CHANGED * row + place))
                behind += 1
        store(here, ARRAYS, size_of(load(arguments, 1 + LENGTH * row)))
    run(data_of(arguments, 0), table, rows, THREADS)
    release(table)
    return 0
"""

_NUMBERS = """
def handler(frame):
    if is_question(frame) == 1:
        return 0
    arguments = load(frame, FRAME_ARGUMENTS)
    rows = load(frame, FRAME_ARGUMENT_COUNT) - 1
    addresses = allocate(rows * WORD)
    for row in range(rows):
        store(addresses, row, data_of(arguments, 1 + row))
    result = data_of(load(frame, FRAME_RESULTS), 0)
    gather(addresses, data_of(arguments, 0), rows, COUNT, result)
    release(addresses)
    return 0
"""


def is_available() -> bool:
    """Whether loops can be compiled, and XLA's interface is known."""
    return compiled.is_available() and _interface_version()[0] == _KNOWN_MAJOR_VERSION


@functools.cache
def _interface_version() -> tuple[int, int]:
    """The major and minor version of the interface of the JAX that is installed."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text("utf-8")
    major, minor = (
        re.search(rf"define XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR")
    )
    return (int(major[1]), int(minor[1])) if major and minor else (-1, -1)


_registered: dict[str, MachineCode] = {}


def target(loop: Loop, length: int, changed: int, kept: Iterable[int]) -> str:
    """Register a loop with XLA, once; return the name to call it by.

    A call has any number of rows of tensors of one shape: its arguments are the vector of
    scalars and row after row, its results what changes of each row.

    Args:
        loop: What to do with a row, and with new tensors for those that are kept.
        length: How many tensors a row has.
        changed: How many of them, its first, change.
        kept: Which of these are not overwritten.
    """
    places = {"LENGTH": length, "CHANGED": changed, "KEPT": sum(1 << place for place in kept)}
    source = _HELPERS + _LOOP
    return _registered_once(
        (loop, source, places),
        lambda known: compiled.handler(loop, source, known | places),
    )


def numbers(count: int) -> str:
    """Register with XLA what reads ``count`` numbers of tensors; return the name to call it by.

    Its arguments are the strides between the numbers of each, as words, and tensors of float32;
    its result has a row for each.
    """
    source = compiled.GATHER + _HELPERS + _NUMBERS
    return _registered_once(
        (source, count),
        lambda known: compiled.with_memory(source, known | {"COUNT": count}, {}),
    )


def _registered_once(parts: Any, compile_with: Callable[[dict[str, int]], MachineCode]) -> str:
    # In a name that stays the same: XLA's cache of compiled programs knows only the name.
    name = f"surefoot_{compiled.digest(parts)}"
    if name not in _registered:
        major, minor = _interface_version()
        constants = {"VERSION": minor << 32 | major, "THREADS": compiled.cores()}
        code = compile_with(_PLACES | constants)
        address = ctypes.CFUNCTYPE(None)(code.address("handler"))
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
        _registered[name] = code
    return name
