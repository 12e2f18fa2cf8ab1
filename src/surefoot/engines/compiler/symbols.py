"""An array namespace whose operations write the body of a loop.

The rule runs once on these symbols, and each operation becomes a line of a `Language`: LLVM's
intermediate representation on a CPU, Triton's on a GPU. A line that depends on scalars only runs
once, before the loop.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Language(NamedTuple):
    """How a language writes names, constants and operations.

    Attributes:
        types: Its types, by dtype.
        prefix: What stands before a name.
        constant: Writes a constant of a type of the language.
        operations: By name and dtype; ``{}`` stand for the operands, ``T`` for the type.
    """

    types: Mapping[str, str]
    prefix: str
    constant: Callable[[float, str], str]
    operations: Callable[[str, str], str]


class LoopBuilder:
    """The instructions of one loop.

    Args:
        dtype: That of all numbers and scalars, float32 or float64; there are integers, int32, too.
        language: In what the loop is written.

    Attributes:
        before_loop: The lines before the loop.
        in_loop: Those in it.
        flags: The names of the flags that are computed before the loop.
    """

    def __init__(self, dtype: str, language: Language) -> None:
        self.dtype = dtype
        self.language = language
        self.type = language.types[dtype]
        self.before_loop: list[str] = []
        self.in_loop: list[str] = []
        self.flags: list[str] = []

    def scalar(self, name: str, dtype: str | None = None) -> Symbol:
        """A symbol that is the same for all numbers."""
        return Symbol(self, self.language.prefix + name, dtype, varies=False)

    def number(self, name: str, dtype: str | None = None) -> Symbol:
        """A symbol for the number at hand of an array."""
        return Symbol(self, self.language.prefix + name, dtype, varies=True)

    def result(
        self, operation: str, operands: tuple[Symbol, ...], dtype: str | None = None
    ) -> Symbol:
        """The result of an operation, of another dtype than the operands if that is given."""
        varies = any(operand.varies for operand in operands)
        lines = self.in_loop if varies else self.before_loop
        name = f"{self.language.prefix}{'w' if varies else 'b'}{len(lines)}"
        kind = operands[-1].dtype  # a selection's first operand is a flag
        instruction = self.language.operations(operation, kind)
        instruction = re.sub(r"\bT\b", self.language.types[kind], instruction)
        lines.append(f"{name} = {instruction.format(*(o.name for o in operands))}")
        if dtype == "bool" and not varies:
            self.flags.append(name)
        return Symbol(self, name, dtype or kind, varies=varies)

    def constant(self, value: float, dtype: str | None = None) -> Symbol:
        """A constant, in the dtype of the loop unless another is given."""
        dtype = dtype or self.dtype
        if dtype == "float32":
            value = struct.unpack("f", struct.pack("f", value))[0]
        written = self.language.constant(value, self.language.types[dtype])
        return Symbol(self, written, dtype, varies=False)

    def symbol(self, value: Any, dtype: str | None = None) -> Symbol:
        """A symbol as it is, a Python number as a constant."""
        if isinstance(value, Symbol):
            return value
        return self.constant(int(value) if dtype == "int32" else float(value), dtype)


class Symbol:
    """A number of an array, or a scalar.

    Attributes:
        name: What the language calls it.
        varies: Whether it differs from number to number.
        dtype: float32, float64, int32 or, for a flag, bool.
    """

    def __init__(
        self, builder: LoopBuilder, name: str, dtype: str | None = None, *, varies: bool
    ) -> None:
        self.builder = builder
        self.name = name
        self.varies = varies
        self.dtype = dtype or builder.dtype

    def operation(self, name: str, *others: Any, gives: str | None = None) -> Symbol:
        """An operation on this symbol and others; it gives the same dtype unless it says so."""
        kind = None if self.dtype == "bool" else self.dtype
        symbols = [self.builder.symbol(other, kind) for other in others]
        return self.builder.result(name, (self, *symbols), gives)

    def _compared(self, name: str, other: Any) -> Symbol:
        return self.operation(name, other, gives="bool")

    def __add__(self, other: Any) -> Symbol:
        return self.operation("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symbol:
        return self.operation("subtract", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.builder.symbol(other) - self

    def __neg__(self) -> Symbol:
        return self.builder.constant(-0.0) - self

    def __mul__(self, other: Any) -> Symbol:
        return self.operation("multiply", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Symbol:
        return self.operation("divide", other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.builder.symbol(other) / self

    def __mod__(self, other: Any) -> Symbol:
        return self.operation("remainder", other)

    def __lt__(self, other: Any) -> Symbol:
        return self._compared("less", other)

    def __le__(self, other: Any) -> Symbol:
        return self._compared("less_equal", other)

    def __gt__(self, other: Any) -> Symbol:
        return self._compared("greater", other)

    def __ge__(self, other: Any) -> Symbol:
        return self._compared("greater_equal", other)

    def __eq__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("equal", other)

    def __ne__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("not_equal", other)

    def __and__(self, other: Any) -> Symbol:
        return self.operation("and", other)

    def __xor__(self, other: Any) -> Symbol:
        return self.operation("exclusive_or", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("A loop makes no decision in Python; use `where`.")


def abs(x: Symbol) -> Symbol:
    """The absolute value."""
    return x.operation("abs")


def isfinite(x: Symbol) -> Symbol:
    """Whether it is neither infinite nor NaN."""
    return abs(x) < math.inf


def isnan(x: Symbol) -> Symbol:
    """Whether it is NaN."""
    return x.operation("not_equal", x, gives="bool")


def sqrt(x: Symbol) -> Symbol:
    """The square root."""
    return x.operation("sqrt")


def exp(x: Symbol) -> Symbol:
    """The exponential function."""
    return x.operation("exp")


def expm1(x: Symbol) -> Symbol:
    """``exp(x) - 1`` without cancellation: the errors of ``exp`` and ``log`` cancel (Kahan)."""
    power = exp(x)
    less_one = power - 1.0
    exact = less_one * (x / where(power == 1.0, 1.0, power).operation("log"))
    return where(power == 1.0, x, where(less_one == -1.0, -1.0, exact))


def log1p(x: Symbol) -> Symbol:
    """``log(1 + x)`` without cancellation: ``1 + x`` is off as much as its logarithm (Kahan)."""
    sum = 1.0 + x
    return where(sum == 1.0, x, sum.operation("log") * (x / (sum - 1.0)))


def where(condition: Symbol, x: Any, y: Any) -> Symbol:
    """``x`` where the condition holds, else ``y``."""
    return condition.operation("select", x, y)


def maximum(x: Symbol, y: Any) -> Symbol:
    """The larger one; NaN if one is, as in the backends."""
    return where(x > y, x, where(isnan(x), x, y))


def minimum(x: Symbol, y: Any) -> Symbol:
    """The smaller one; NaN if one is, as in the backends."""
    return where(x < y, x, where(isnan(x), x, y))


def integer(x: Symbol) -> Symbol:
    """A whole number as int32."""
    return x.operation("to_integer", gives="int32")


def to_bits(x: Symbol) -> Symbol:
    """The 32 bits of a float32 as int32."""
    return x.operation("to_bits", gives="int32")


def from_bits(x: Symbol) -> Symbol:
    """The float32 that has these bits."""
    return x.operation("from_bits", gives="float32")


def shifted_right(x: Symbol, places: int) -> Symbol:
    """The bits of an int32, moved to the right, with zeros from the left."""
    return x.operation("shift_right", places)


def clip(x: Symbol, low: Any, high: Any) -> Symbol:
    """``x`` between two bounds; NaN stays NaN."""
    return where(x < low, low, where(x > high, high, x))


def ones_like(x: Symbol) -> Symbol:
    """One."""
    return x.builder.constant(1.0)


def zeros_like(x: Symbol) -> Symbol:
    """Zero."""
    return x.builder.constant(0.0)
