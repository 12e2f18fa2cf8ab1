"""Handlers of XLA's foreign function interface, registered once in a process."""

from __future__ import annotations

from collections.abc import Callable

from surefoot.engines.compiler import llvm
from surefoot.engines.compiler.loop import Loop, xla_handler

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
        text = xla_handler(loop, minor << 32 | major, threads)
        name = f"surefoot_{llvm.digest(text)}"
        with llvm.LOCK:
            if name not in self._names:
                self._register(name, llvm.address(text, "handler"))
                self._names.add(name)
        return name
