"""An array namespace whose operations write the body of a loop.

The rule runs once on these symbols, and each operation becomes a line of a language: LLVM's
intermediate representation on a CPU, Triton's on a GPU. A line that depends on scalars only runs
once, before the loop. See `surefoot.engines.compiler.builders`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.engines.compiler.builders import LoopBuilder


class Symbol:
    """A number of an array, or a scalar.

    Attributes:
        name: What the language calls it.
        varies: Whether it differs from number to number.
        dtype: float32, float64, int32 or, for a flag, bool.
        factors: Those of a product.
    """

    def __init__(
        self, builder: LoopBuilder, name: str, dtype: str | None = None, *, varies: bool
    ) -> None:
        self.builder = builder
        self.name = name
        self.varies = varies
        self.dtype = dtype or builder.dtype
        self.factors: tuple[Symbol, Symbol] | None = None

    def operation(self, name: str, *others: Any, gives: str | None = None) -> Symbol:
        """An operation on this symbol and others; it gives the same dtype unless it says so."""
        kind = None if self.dtype == "bool" else self.dtype
        symbols = [self.builder.symbol(other, kind) for other in others]
        return self.builder.result(name, (self, *symbols), gives)

    def _compared(self, name: str, other: Any) -> Symbol:
        return self.operation(name, other, gives="bool")

    # Which product is fused with a sum is decided here, and not by a compiler: all loops that are
    # made of one function agree to the last bit.

    def _fused(self) -> bool:
        return self.factors is not None and self.builder.language.fuses

    def _plus(self, term: Symbol, sign: Callable[[Symbol], Symbol] = operator.pos) -> Symbol:
        """This product, or its negative, and another term in one operation."""
        assert self.factors is not None
        x, y = self.factors
        return self.builder.result("multiply_add", (sign(x), y, term))

    def __add__(self, other: Any) -> Symbol:
        other = self.builder.symbol(other, self.dtype)
        if other._fused():
            return other._plus(self)
        return self._plus(other) if self._fused() else self.operation("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symbol:
        other = self.builder.symbol(other, self.dtype)
        if other._fused():
            return other._plus(self, operator.neg)
        return self._plus(-other) if self._fused() else self.operation("subtract", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.builder.symbol(other, self.dtype) - self

    def __pos__(self) -> Symbol:
        return self

    def __neg__(self) -> Symbol:
        return self.builder.constant(-0.0).operation("subtract", self)

    def __mul__(self, other: Any) -> Symbol:
        product = self.operation("multiply", other)
        if self.dtype != "int32":
            product.factors = self, self.builder.symbol(other, self.dtype)
        return product

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
    return x.builder.is_finite(x)


def isnan(x: Symbol) -> Symbol:
    """Whether it is NaN."""
    return x.builder.is_nan(x)


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
