"""An array namespace that writes down what is computed, for a backend that traces nothing.

Its values, of one dtype or boolean, are the names of lines of a loop.
"""

from __future__ import annotations

from typing import Any

from surefoot.engines.loops import Lines, UnknownOperationError


class Symbol:
    """A number of a loop, or a scalar before it.

    Attributes:
        name: What the loop calls it.
        dtype: What the backend calls its dtype; the loop knows its own.
    """

    def __init__(self, lines: Lines, name: str, dtype: Any) -> None:
        self._lines = lines
        self.name = name
        self.dtype = dtype

    def operation(self, name: str, *operands: Any) -> Symbol:
        """The result of an operation on numbers and symbols."""
        names = [
            x.name if isinstance(x, Symbol) else self._lines.number(float(x)) for x in operands
        ]
        return Symbol(self._lines, self._lines.operation(name, *names), self.dtype)

    def to(self, dtype: Any) -> Symbol:
        """Itself, in the dtype that it has.

        Raises:
            UnknownOperationError: If that is another one.
        """
        if dtype != self.dtype:
            raise UnknownOperationError(f"{self.dtype} to {dtype}")
        return self

    def __add__(self, other: Any) -> Symbol:
        return self.operation("add", self, other)

    def __sub__(self, other: Any) -> Symbol:
        return self.operation("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.operation("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.operation("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.operation("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.operation("div", self, other)

    def __le__(self, other: Any) -> Symbol:
        return self.operation("le", self, other)

    def __bool__(self) -> bool:
        raise UnknownOperationError("A decision, which a loop does not make")


def clipped(x: Symbol, bound: float | None) -> Symbol:
    """``x`` within ``bound`` on both sides of zero."""
    return x if bound is None else x.operation("clamp", -bound, x, bound)


def maximum(x: Symbol, y: Symbol) -> Symbol:
    """The larger one; NaN if one is."""
    return x.operation("max", x, y)


def ones_like(x: Symbol) -> Symbol:
    """One."""
    return x.operation("copy", 1.0)


def sqrt(x: Symbol) -> Symbol:
    """The square root."""
    return x.operation("sqrt", x)


def where(condition: Symbol, x: Symbol, y: Symbol) -> Symbol:
    """``x`` where the condition holds, else ``y``."""
    return x.operation("select", condition, x, y)
