"""An array namespace whose operations write the body of a loop.

The rule runs once on symbols, and each operation becomes a line of a language: LLVM's intermediate
representation on a CPU, Triton's on a GPU. A line that depends on scalars only runs once, before
the loop. See `surefoot.engines.compiler.builders`.
"""

from __future__ import annotations

from typing import Any

from surefoot.engines.compiler.builders import Symbol


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
