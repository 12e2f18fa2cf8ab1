"""An elementwise function as a loop over rows of arrays."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from surefoot.engines.compiler import llvm, symbols
from surefoot.engines.compiler.builders import LoopBuilder, Symbol
from surefoot.rule.rounding import Position

Array = Any

Elementwise = Callable[[Any, Sequence[Array], Sequence[Array], Position], list[Array]]
"""``function(xp, scalars, numbers, position)`` returns the new values of the first numbers."""


class Loop(NamedTuple):
    """A loop over the arrays of each row; it depends on the structure of a step alone.

    Attributes:
        function: The function of `symbols`, or of the arrays of a backend.
        dtype: In what it computes, float32 or float64.
        scalars: How many scalars it reads. They are of the same dtype.
        stored: The dtypes of the arrays of a row that it reads: that of the loop; bfloat16, to
            which nothing is rounded here: the function returns numbers that bfloat16 represents;
            or int16, numbers of which are int32 to the function.
        outputs: How many of these arrays it writes: the first ones.
        new: Positions of the outputs that are not written in place but to new arrays, which follow
            the inputs in a row.
        conditional: Whether a condition precedes the scalars: if it is 0, the loop does nothing.
        keyed: Whether it rounds at random, by keys of the rows.
    """

    function: Elementwise
    dtype: str
    scalars: int
    stored: tuple[str, ...]
    outputs: int
    new: tuple[int, ...] = ()
    conditional: bool = False
    keyed: bool = False

    @property
    def inputs(self) -> int:
        """How many arrays of a row it reads."""
        return len(self.stored)

    @property
    def arrays(self) -> int:
        """How many arrays a row has."""
        return self.inputs + len(self.new)

    def also_returning(self, inputs: int) -> Loop:
        """The same loop with the first ``inputs`` arrays as outputs, also those that it only reads.

        XLA then knows that a later write to them has to wait for this loop, and makes no copies.
        Nothing is written there.
        """
        function = _returning(self.function, self.outputs, inputs)
        return self._replace(function=function, outputs=max(self.outputs, inputs))

    def written_by(self, builder: LoopBuilder) -> list[Symbol]:
        """Let a builder write the loop's instructions; return the results.

        The scalars are called s0, s1 and so on, the condition first, and the numbers x0, x1.
        """
        first = int(self.conditional)
        scalars = [builder.scalar(f"s{first + i}") for i in range(self.scalars)]
        numbers = [
            builder.number(f"x{i}", "int32" if form == "int16" else None)
            for i, form in enumerate(self.stored)
        ]
        position = Position(builder.scalar("key", "int32"), builder.number("place", "int32"))
        return self.function(symbols, scalars, numbers, position)


@functools.cache
def _returning(function: Elementwise, first: int, last: int) -> Elementwise:
    def with_inputs(
        xp: Any, scalars: Sequence[Array], numbers: Sequence[Array], position: Position
    ) -> list[Array]:
        return [*function(xp, scalars, numbers, position), *numbers[first:last]]

    return with_inputs


class Obstacle(NamedTuple):
    """Why there are no loops.

    Attributes:
        reason: In words.
        is_only_missing: Whether there would be loops if llvmlite were installed.
    """

    reason: str
    is_only_missing: bool = False


def obstacle(backend: str, *others: Callable[[], str | None]) -> Obstacle | None:
    """Why no loop can run, or None.

    A program that is exported to other processes must not call into this one: with the
    environment variable SUREFOOT_LOOPS=0 all steps are left to the backend.

    Args:
        backend: Its name, which is that of the extra that has llvmlite.
        *others: Each returns another reason, or None. LLVM is checked last: where it is the reason,
            it is all that is missing.
    """
    if os.environ.get("SUREFOOT_LOOPS") == "0":
        return Obstacle("SUREFOOT_LOOPS=0 is set")
    for other in others:
        reason = other()
        if reason is not None:
            return Obstacle(reason)
    reason = llvm.obstacle()
    if reason is None:
        return None
    return Obstacle(f"{reason}: pip install 'surefoot[{backend}]'", is_only_missing=True)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
