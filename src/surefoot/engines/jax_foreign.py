"""Loops compiled by Numba, called by XLA through its foreign function interface.

XLA passes a handler one pointer, to a frame whose layout is part of its binary interface
(``xla/ffi/api/c_api.h``, which every JAX brings along). Within a major version fields are only
ever added behind the known ones.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from surefoot.engines import compiled

_KNOWN_MAJOR_VERSION = 0

_PLACES = {
    "FRAME_EXTENSION": 1,
    "FRAME_ARGUMENTS": 9,
    "FRAME_COUNT": 12,
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
    if extension == 0 or load(extension, EXTENSION_KIND) & 0xFFFFFFFF != 1:
        return False
    metadata = load(extension, EXTENSION_METADATA)
    store(metadata, METADATA_VERSION, VERSION)
    store(metadata, METADATA_TRAITS, load(metadata, METADATA_TRAITS) & ~0xFFFFFFFF)
    return True

def size_of(buffer):
    size = 1
    for axis in range(load(buffer, BUFFER_RANK)):
        size *= load(load(buffer, BUFFER_SIZES), axis)
    return size

def data_of(buffers, place):
    return load(load(buffers, place), BUFFER_DATA)

def handle(frame, share, length, changed, kept):
    if is_question(frame):
        return 0
    arguments, results = load(frame, FRAME_ARGUMENTS), load(frame, FRAME_RESULTS)
    rows = load(frame, FRAME_COUNT) // changed
    arrays = length
    for place in range(changed):
        arrays += kept >> place & 1
    table = allocate(rows * (arrays + 1) * WORD)
    for row in range(rows):
        here = table + row * (arrays + 1) * WORD
        for place in range(length):
            store(here, place, data_of(arguments, 1 + length * row + place))
        behind = length
        for place in range(changed):
            if kept >> place & 1:
                store(here, behind, data_of(results, changed * row + place))
                behind += 1
        store(here, arrays, size_of(load(arguments, 1 + length * row)))
    scalars = load(arguments, 0)
    run(share, arrays, load(scalars, BUFFER_DATA), size_of(scalars), table, rows, THREADS)
    release(table)
    return 0
"""
"""Before the first call XLA puts a question: which version of the interface this is for."""


def is_available() -> bool:
    """Whether functions may be compiled, and XLA's interface is known."""
    return compiled.is_available() and _interface_version()[0] == _KNOWN_MAJOR_VERSION


@functools.cache
def _interface_version() -> tuple[int, int]:
    """The major and minor version of the interface of the JAX that is installed."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text("utf-8")
    major, minor = (
        re.search(rf"define XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR")
    )
    return (int(major[1]), int(minor[1])) if major and minor else (-1, -1)


@functools.cache
def _helpers() -> dict[str, Any]:
    major, minor = _interface_version()
    version = minor << 32 | major
    names = _PLACES | {"VERSION": version, "THREADS": compiled.cores()}
    return compiled.helpers(_HELPERS, names)


_registered: dict[str, Any] = {}


def target(source: str, dtype: str, arguments: int, changed: int, kept: Iterable[int]) -> str:
    """Register a loop with XLA, once; return the name to call it by.

    A call has any number of rows of tensors of one shape: its arguments are the vector of
    scalars and row after row, its results what changes of each row.

    Args:
        source: What to do with the arguments of a row, and with new tensors for those that are
            kept; see `compiled.handler`.
        dtype: float32 or float64.
        arguments: The length of a row.
        changed: How many tensors of a row, its first, change.
        kept: Which of them are not overwritten.
    """
    kept_bits = sum(1 << place for place in kept)
    call = f"handle(frame, SHARE, {arguments}, {changed}, {kept_bits})"
    handler = f"def handler(frame):\n    return {call}\n"
    # In a name that stays the same: XLA's cache of compiled programs knows only the name.
    name = f"surefoot_{compiled.digest(source, handler, dtype)}"
    if name not in _registered:
        _registered[name] = compiled.handler(
            source, arguments + kept_bits.bit_count(), (dtype, dtype), handler, _helpers()
        )
        address = ctypes.CFUNCTYPE(None)(_registered[name].address)
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
    return name
