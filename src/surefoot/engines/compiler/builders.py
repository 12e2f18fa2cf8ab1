"""Symbols for the numbers of a loop, and builders that write down what is computed with them."""

from __future__ import annotations

import functools
import math
import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Language(NamedTuple):
    """How a language writes names, constants and operations.

    Attributes:
        types: Its types, by dtype.
        prefix: What stands before a name.
        constant: Writes a constant of a type of the language.
        operations: By name and dtype; ``{}`` stand for the operands, ``{T}`` for their type,
            ``{flag}`` for that of a selection's condition, ``{int32}`` and so on for other types.
        fuses: Whether it has ``multiply_add``, which may leave out the rounding of the product.
        spread: Writes the lines that make a value of the language (the first name) of a scalar (the
            second) of a type; None where a scalar can be an operand as it is.
    """

    types: Mapping[str, str]
    prefix: str
    constant: Callable[[float, str], str]
    operations: Callable[[str, str], str]
    fuses: bool = False
    spread: Callable[[str, str, str], list[str]] | None = None


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


class LoopBuilder:
    """The instructions of one loop.

    Args:
        dtype: That of all numbers and scalars, float32 or float64; there are integers, int32, too.
        language: In what the numbers' part is written.
        scalars: In what the scalars' part is; the same unless given.

    Attributes:
        before_loop: The lines before the loop.
        in_loop: Those in it.
        flags: The names of the flags that are computed before the loop.
    """

    def __init__(self, dtype: str, language: Language, scalars: Language | None = None) -> None:
        self.dtype = dtype
        self.language = language
        self.type = language.types[dtype]
        self.before_loop: list[str] = []
        self.in_loop: list[str] = []
        self.flags: list[str] = []
        self._scalar_language = scalars or language
        self._spread: dict[tuple[str, str], str] = {}

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
        language = self.language if varies else self._scalar_language
        kind = operands[-1].dtype  # a selection's first operand is a flag
        if varies:
            condition = operands[:1] if operation == "select" else ()
            operands = (*condition, *map(self.spread, operands[len(condition) :]))
        flag = (self.language if operands[0].varies else self._scalar_language).types["bool"]
        name = f"{language.prefix}{'w' if varies else 'b'}{len(lines)}"
        instruction = language.operations(operation, kind).format(
            *(operand.name for operand in operands),
            **{"T": language.types[kind], "flag": flag, **language.types},
        )
        lines.append(f"{name} = {instruction}")
        if dtype == "bool" and not varies:
            self.flags.append(name)
        return Symbol(self, name, dtype or kind, varies=varies)

    def spread(self, symbol: Symbol) -> Symbol:
        """The symbol as an operand beside numbers."""
        if symbol.varies or self.language.spread is None:
            return symbol
        key = symbol.name, symbol.dtype
        if key not in self._spread:
            self._spread[key] = f"{self.language.prefix}v{len(self._spread)}"
            kind = self._scalar_language.types[symbol.dtype]
            self.before_loop += self.language.spread(self._spread[key], symbol.name, kind)
        return Symbol(self, self._spread[key], symbol.dtype, varies=True)

    def is_finite(self, x: Symbol) -> Symbol:
        """Whether a number is neither infinite nor NaN."""
        return x.operation("abs") < math.inf

    def is_nan(self, x: Symbol) -> Symbol:
        """Whether a number is NaN."""
        return x.operation("not_equal", x, gives="bool")

    def constant(self, value: float, dtype: str | None = None) -> Symbol:
        """A constant, in the dtype of the loop unless another is given."""
        dtype = dtype or self.dtype
        if dtype == "float32":
            value = struct.unpack("f", struct.pack("f", value))[0]
        written = self._scalar_language.constant(value, self._scalar_language.types[dtype])
        return Symbol(self, written, dtype, varies=False)

    def symbol(self, value: Any, dtype: str | None = None) -> Symbol:
        """A symbol as it is, a Python number as a constant."""
        if isinstance(value, Symbol):
            return value
        return self.constant(int(value) if dtype == "int32" else float(value), dtype)


class UsualLoopBuilder(LoopBuilder):
    """The instructions of a loop over usual numbers.

    Flags of the step, which are computed before the loop, are taken to hold, and numbers to be
    finite where it is asked. Whoever runs it makes sure of the flags before, and of the numbers
    before anything is written: see `usual`.
    """

    def __init__(self, dtype: str, language: Language, scalars: Language) -> None:
        super().__init__(dtype, language, scalars)
        self._not_nan: dict[str, Symbol] = {}

    def result(
        self, operation: str, operands: tuple[Symbol, ...], dtype: str | None = None
    ) -> Symbol:
        """The same; a flag of the step is true."""
        result = super().result(operation, operands, dtype)
        return self._flag("true") if result.dtype == "bool" and not result.varies else result

    def is_finite(self, x: Symbol) -> Symbol:
        """True, and checked by `usual`."""
        if not x.varies:
            return super().is_finite(x)
        self._take_for_number(x - x)
        return self._flag("true")

    def is_nan(self, x: Symbol) -> Symbol:
        """False, and checked by `usual`."""
        if not x.varies:
            return super().is_nan(x)
        self._take_for_number(x)
        return self._flag("false")

    def _take_for_number(self, x: Symbol) -> None:
        self._not_nan[x.name] = x

    def _flag(self, name: str) -> Symbol:
        return Symbol(self, name, "bool", varies=False)

    def usual(self) -> Symbol | None:
        """Whether all numbers are as was taken for granted; None if nothing was."""
        asked = list(self._not_nan.values())
        pairs = zip(asked[::2], [*asked[1::2], asked[-1]], strict=False) if asked else ()
        ordered = [x.operation("ordered", y, gives="bool") for x, y in pairs]
        return functools.reduce(operator.and_, ordered) if ordered else None
