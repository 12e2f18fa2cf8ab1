"""An array namespace whose operations write the body of a loop.

The rule runs once on these symbols, and each operation becomes a line of LLVM's intermediate
representation. A line that depends on scalars only runs once, before the loop.
"""

from __future__ import annotations

import math
import struct
from typing import Any

LLVM_TYPES = {"float32": "float", "float64": "double"}


class LoopBuilder:
    """The instructions of one loop.

    Args:
        dtype: That of all numbers and scalars, float32 or float64.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.type = LLVM_TYPES[dtype]
        self.before_loop: list[str] = []
        self.in_loop: list[str] = []

    def result(self, instruction: str, operands: tuple[Symbol, ...], *, flag: bool) -> Symbol:
        """An instruction's result; ``{}`` in its instruction stand for the operands."""
        varies = any(operand.varies for operand in operands)
        lines = self.in_loop if varies else self.before_loop
        name = f"%{'w' if varies else 'b'}{len(lines)}"
        lines.append(f"{name} = {instruction.format(*(o.name for o in operands))}")
        return Symbol(self, name, varies=varies, flag=flag)

    def constant(self, value: float) -> Symbol:
        """A constant in the dtype of the loop."""
        if self.dtype == "float32":
            value = struct.unpack("f", struct.pack("f", value))[0]
        return Symbol(self, f"0x{struct.pack('>d', value).hex()}", varies=False)

    def symbol(self, value: Any) -> Symbol:
        """A symbol as it is, a Python number as a constant."""
        return value if isinstance(value, Symbol) else self.constant(float(value))


class Symbol:
    """A number of an array, or a scalar.

    Attributes:
        name: What LLVM's representation calls it.
        varies: Whether it differs from number to number.
        dtype: Its dtype; that of a flag means nothing.
    """

    def __init__(
        self, builder: LoopBuilder, name: str, *, varies: bool, flag: bool = False
    ) -> None:
        self.builder = builder
        self.name = name
        self.varies = varies
        self.dtype = builder.dtype
        self._flag = flag

    def operation(self, instruction: str, *others: Any, flag: bool = False) -> Symbol:
        """An operation on this symbol and others; ``T`` in its instruction is the type."""
        operands = (self, *map(self.builder.symbol, others))
        instruction = instruction.replace("T", self.builder.type)
        return self.builder.result(instruction, operands, flag=flag)

    def __add__(self, other: Any) -> Symbol:
        return self.operation("fadd contract T {}, {}", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symbol:
        return self.operation("fsub contract T {}, {}", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.builder.symbol(other) - self

    def __mul__(self, other: Any) -> Symbol:
        return self.operation("fmul contract T {}, {}", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Symbol:
        return self.operation("fdiv T {}, {}", other)

    def __lt__(self, other: Any) -> Symbol:
        return self.operation("fcmp olt T {}, {}", other, flag=True)

    def __le__(self, other: Any) -> Symbol:
        return self.operation("fcmp ole T {}, {}", other, flag=True)

    def __gt__(self, other: Any) -> Symbol:
        return self.operation("fcmp ogt T {}, {}", other, flag=True)

    def __ne__(self, other: object) -> Symbol:  # type: ignore[override]
        return self.operation("fcmp une T {}, {}", other, flag=True)

    def __and__(self, other: Symbol) -> Symbol:
        return self.operation("and i1 {}, {}", other, flag=True)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("A loop makes no decision in Python; use `where`.")


def abs(x: Symbol) -> Symbol:
    """The absolute value."""
    return x.operation("call T @fabs(T {})")


def isfinite(x: Symbol) -> Symbol:
    """Whether it is neither infinite nor NaN."""
    return abs(x) < math.inf


def sqrt(x: Symbol) -> Symbol:
    """The square root."""
    return x.operation("call T @sqrt(T {})")


def where(condition: Symbol, x: Any, y: Any) -> Symbol:
    """``x`` where the condition holds, else ``y``."""
    return condition.operation("select i1 {}, T {}, T {}", x, y)


def maximum(x: Symbol, y: Any) -> Symbol:
    """The larger one; NaN if one is, as in the backends."""
    nan = x.operation("fcmp uno T {}, {}", x, flag=True)
    return where(x > y, x, where(nan, x, y))


def clip(x: Symbol, low: Any, high: Any) -> Symbol:
    """``x`` between two bounds; NaN stays NaN."""
    return where(x < low, low, where(x > high, high, x))


def ones_like(x: Symbol) -> Symbol:
    """One."""
    return x.builder.constant(1.0)


def zeros_like(x: Symbol) -> Symbol:
    """Zero."""
    return x.builder.constant(0.0)
