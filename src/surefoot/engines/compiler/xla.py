"""Handlers of XLA's foreign function interface, registered once in a process."""

from __future__ import annotations

from collections.abc import Callable

from surefoot.engines.compiler import llvm
from surefoot.engines.compiler.instructions import TYPES
from surefoot.engines.compiler.loop import Loop
from surefoot.engines.compiler.representation import all_hold, representation, text

KNOWN_MAJOR_VERSION = 0
"""Of the interface; within it, fields are only added behind those that the handler reads."""


def unknown_version(backend: str, version: tuple[int, int]) -> str | None:
    """Why no handler can be made for a backend's interface of this version; None if one can."""
    if version[0] == KNOWN_MAJOR_VERSION:
        return None
    return (
        f"the foreign function interface of this {backend} is unknown: its version is "
        f"{version[0]}.{version[1]}, and known is {KNOWN_MAJOR_VERSION}"
    )


class Handlers:
    """What is registered with one XLA: each backend brings its own.

    Args:
        register: Registers the handler at an address under a name, for the platform of CPUs.
    """

    def __init__(self, register: Callable[[str, int], None]) -> None:
        self._register = register
        self._names: set[str] = set()

    def name_for(self, loop: Loop, version: tuple[int, int], threads: int) -> str:
        """Compile the handler of a loop and register it, if that has not been done.

        Args:
            loop: The loop.
            version: Major and minor version of XLA's interface.
            threads: How many threads may share its work.

        Returns:
            The name to call it by. It is the same in every process, since XLA's cache of compiled
            programs knows only the name.
        """
        major, minor = version
        program = handler(loop, minor << 32 | major, threads)
        name = f"surefoot_{llvm.digest(program)}"
        with llvm.LOCK:
            if name not in self._names:
                self._register(name, llvm.address(program, "handler"))
                self._names.add(name)
        return name


def handler(loop: Loop, version: int, thread_count: int) -> str:
    """The loop with the handler of XLA's foreign function interface that calls it.

    Args:
        loop: The loop. The handler's arguments are its scalars as a vector, the condition first,
            behind them for each row the upper and the lower half of its key if the loop is keyed,
            and row after row of arrays of one shape; its results are row after row of outputs.
        version: The version of the interface as XLA stores it: minor and major, four bytes each.
        thread_count: How many threads may share the work.
    """
    entries: list[str] = []
    flags = ["%fits"]

    def enter(name: str, array: str, base: str, index: int, call: str) -> None:
        entries.extend(
            [
                f"%{name}.place = add i64 {base}, {index}",
                f"%{name} = call ptr @pointer(ptr {array}, i64 %{name}.place)",
                f"%{name}.fits = call i1 {call}, ptr %{name})",
            ]
        )
        flags.append(f"%{name}.fits")

    for place in range(loop.inputs):
        enter(f"in{place}", "%arguments", "%inputs", place, f"@enter(ptr %here, i64 {place}")
    for place in range(loop.outputs):
        if place in loop.new:
            at = loop.inputs + loop.new.index(place)
            call = f"@enter(ptr %here, i64 {at}"
        else:
            call = f"@is_aliased(ptr %here, i64 {place}"
        enter(f"out{place}", "%results", "%outputs", place, call)
    return representation(loop) + text(
        "xla_handler.ll",
        ARRAYS=loop.arrays,
        WIDTH=loop.arrays + 2,
        ROW_BYTES=8 * (loop.arrays + 2),
        KEY=_key_of_halves(loop),
        INPUTS=loop.inputs,
        OUTPUTS=loop.outputs,
        VERSION=version,
        THREADS=thread_count,
        ENTRIES=[*entries, *all_hold("%fits.next", flags)],
    )


def _key_of_halves(loop: Loop) -> list[str]:
    """Put the key of a row, given by two whole numbers, into the table."""
    target = f"%key.at = getelementptr i64, ptr %here, i64 {loop.arrays + 1}"
    if not loop.keyed:
        return [target, "store i64 0, ptr %key.at"]
    kind = TYPES[loop.dtype]
    first = int(loop.conditional) + loop.scalars
    return [
        target,
        "%high.number = shl i64 %number, 1",
        f"%high.place = add i64 %high.number, {first}",
        f"%high.at = getelementptr {kind}, ptr %scalars, i64 %high.place",
        f"%low.at = getelementptr {kind}, ptr %high.at, i64 1",
        f"%high.given = load {kind}, ptr %high.at",
        f"%low.given = load {kind}, ptr %low.at",
        f"%high = fptosi {kind} %high.given to i64",
        f"%low = fptosi {kind} %low.given to i64",
        "%high.shifted = shl i64 %high, 16",
        "%key = or i64 %high.shifted, %low",
        "store i64 %key, ptr %key.at",
    ]
