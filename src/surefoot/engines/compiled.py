"""Loops as machine code, for backends to call as they call their own functions."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from surefoot.engines import machine_code
from surefoot.engines.language import WORD, Foreign, address_of
from surefoot.engines.machine_code import MachineCode

_SHARE = """
def idle(scalars):
    return {idle}

def share(work):
    scalars, table, rows, total = load(work, 0), load(work, 1), load(work, 2), load(work, 3)
    {before}
    taken = fetch_add(work, 4, CHUNK)
    while taken < total:
        first, last = taken, taken + CHUNK
        for row in range(rows):
            size = load(table, {width} * row + {arrays})
            if (first < size) & (last > 0):
                {addresses}
                for i in together(max(first, 0), min(last, size)):
                    {within}
            first -= size
            last -= size
        taken = fetch_add(work, 4, CHUNK)
    return 0
"""
"""What each thread does: it takes some of the numbers of all rows as long as there are any.

A thread that starts late leaves them to the others; on a busy machine half of them each would
wait for it.
"""

_RUN = """
def run(scalars, table, rows, threads):
    if idle(scalars) == 1:
        return 0
    total = 0
    for row in range(rows):
        total += load(table, (ARRAYS + 1) * row + ARRAYS)
    threads = max(min(threads, total // WORTH_A_THREAD), 1)
    work = allocate((5 + 2 * threads) * WORD)
    store(work, 0, scalars)
    store(work, 1, table)
    store(work, 2, rows)
    store(work, 3, total)
    store(work, 4, 0)
    others = work + 5 * WORD
    for thread in range(1, threads):
        failed = create_thread(others + 2 * thread * WORD, 0, share, work)
        store(others, 2 * thread + 1, failed)
    share(work)
    for thread in range(1, threads):
        if load(others, 2 * thread + 1) == 0:
            join_thread(load(others, 2 * thread), 0)
    release(work)
    return 0
"""

GATHER = """
def gather(addresses, strides, rows, count, result):
    for row in range(rows):
        address, stride = load(addresses, row), load(strides, row)
        for place in range(count):
            store(result, row * count + place, load_float32(address, place * stride))
"""
"""Numbers of arrays in float32, ``count`` of each and a stride apart, as the rows of a result."""

_NO_THREADS = """
def create_thread(thread, attributes, function, block):
    return 1

def join_thread(thread, result):
    return 1
"""

_WORTH_A_THREAD = 1 << 19
"""Numbers that take ten times as long as to start a thread."""

_CHUNK = 1 << 17
"""Numbers that a thread takes at a time, in some 50 microseconds."""

_SIZE = ctypes.sizeof(WORD)


class Loop(NamedTuple):
    """What to do with the numbers at the same place of some arrays, all of one size.

    In the language of `surefoot.engines.language`.

    Attributes:
        arrays: How many there are; ``a0`` is the address of the first.
        idle: An expression that is 1 if nothing is to be done, else 0, of ``scalars``, the
            address of what the loop has to know.
        before: Lines that need to run only once. They may use ``scalars``, too.
        within: Lines for the numbers at place ``i``.
    """

    arrays: int
    idle: str
    before: tuple[str, ...]
    within: tuple[str, ...]


def is_available() -> bool:
    """Whether loops can be compiled, and are not switched off.

    A program that is exported to other processes must not call into this one: the environment
    variable SUREFOOT_LOOPS=0 leaves all to the backend.
    """
    return os.environ.get("SUREFOOT_LOOPS") != "0" and machine_code.is_available()


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def digest(*parts: Any) -> str:
    """A name for what is made of these parts that is the same in every process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def handler(
    loop: Loop,
    source: str = "",
    constants: Mapping[str, int] | None = None,
    foreign: Mapping[str, Foreign] | None = None,
) -> MachineCode:
    """Compile a loop and what calls it.

    Args:
        loop: The loop.
        source: The definitions of further functions. They may call ``run`` with the addresses of
            the scalars and of a table, how many rows that has, and how many threads may share
            the work, and name ``ARRAYS``, how many arrays the loop takes. A row of the table has
            the addresses of the arrays, and their size. See also `with_memory`.
        constants: What else they name.
        foreign: What else they call.

    Returns:
        The code, with ``run`` and these functions.

    Raises:
        RuntimeError: If LLVM is not installed.
    """
    threads = _threads()
    return with_memory(
        "\n".join([_share(loop), _RUN, source, *([] if threads else [_NO_THREADS])]),
        {
            "ARRAYS": loop.arrays,
            "CHUNK": _CHUNK,
            "WORTH_A_THREAD": _WORTH_A_THREAD,
            **(constants or {}),
        },
        {**threads, **(foreign or {})},
    )


def with_memory(
    source: str, constants: Mapping[str, int], foreign: Mapping[str, Foreign]
) -> MachineCode:
    """Compile functions that may ``allocate`` and ``release`` memory, counted in ``WORD``.

    Raises:
        RuntimeError: If LLVM is not installed.
    """
    return MachineCode(source, {"WORD": _SIZE, **constants}, {**_memory(), **foreign})


def _share(loop: Loop) -> str:
    width = loop.arrays + 1
    addresses = [f"a{place} = load(table, {width} * row + {place})" for place in range(loop.arrays)]
    return _SHARE.format(
        idle=loop.idle,
        arrays=loop.arrays,
        width=width,
        before=_indented(loop.before, 4),
        addresses=_indented(addresses, 16),
        within=_indented(loop.within, 20),
    )


def _indented(lines: Iterable[str], spaces: int) -> str:
    return ("\n" + " " * spaces).join(lines)


def _memory() -> dict[str, Foreign]:
    allocate, release = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
    return {
        "allocate": Foreign(address_of(allocate), "i64", ("i64",)),
        "release": Foreign(address_of(release), "void", ("i64",)),
    }


def _threads() -> dict[str, Foreign]:
    """How to start a thread and to wait for it; nothing where there is no way."""
    library = machine_code.c_library()
    create, join = (getattr(library, name, None) for name in ("pthread_create", "pthread_join"))
    if create is None or join is None:
        return {}
    return {
        "create_thread": Foreign(address_of(create), "i32", ("i64",) * 4),
        "join_thread": Foreign(address_of(join), "i32", ("i64",) * 2),
    }
