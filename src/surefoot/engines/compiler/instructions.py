"""LLVM's intermediate representation as a language: numbers one by one, or in vectors."""

from __future__ import annotations

import functools
import struct

from surefoot.engines.compiler.builders import Language

_OPERATIONS = {
    "add": "fadd {T} {}, {}",
    "subtract": "fsub {T} {}, {}",
    "multiply": "fmul {T} {}, {}",
    "multiply_add": "call {T} @llvm.fmuladd.$({T} {}, {T} {}, {T} {})",
    "divide": "fdiv {T} {}, {}",
    "less": "fcmp olt {T} {}, {}",
    "less_equal": "fcmp ole {T} {}, {}",
    "greater": "fcmp ogt {T} {}, {}",
    "greater_equal": "fcmp oge {T} {}, {}",
    "equal": "fcmp oeq {T} {}, {}",
    "not_equal": "fcmp une {T} {}, {}",
    "ordered": "fcmp ord {T} {}, {}",
    "and": "and {T} {}, {}",
    "select": "select {flag} {}, {T} {}, {T} {}",
    "abs": "call {T} @llvm.fabs.$({T} {})",
    "sqrt": "call {T} @llvm.sqrt.$({T} {})",
    "to_integer": "fptosi {T} {} to {int32}",
    "to_bits": "bitcast {T} {} to {int32}",
}

_INTEGER_OPERATIONS = {
    "add": "add {T} {}, {}",
    "subtract": "sub {T} {}, {}",
    "multiply": "mul {T} {}, {}",
    "and": "and {T} {}, {}",
    "exclusive_or": "xor {T} {}, {}",
    "shift_right": "lshr {T} {}, {}",
    "from_bits": "bitcast {T} {} to {float32}",
}

TYPES = {"float32": "float", "float64": "double", "int32": "i32", "bool": "i1"}


def suffix(dtype: str, lanes: int = 1) -> str:
    """How the intrinsic functions for a dtype end."""
    number = f"f{dtype.removeprefix('float')}"
    return number if lanes == 1 else f"v{lanes}{number}"


def vector(kind: str, lanes: int) -> str:
    """The type of some numbers of a type; that type itself for one."""
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def language(lanes: int = 1) -> Language:
    """LLVM's intermediate representation for so many numbers at a time."""

    def operation(name: str, dtype: str) -> str:
        if dtype == "int32":
            return _INTEGER_OPERATIONS[name]
        return _OPERATIONS[name].replace("$", suffix(dtype, lanes))

    return Language(
        types={dtype: vector(kind, lanes) for dtype, kind in TYPES.items()},
        prefix="%",
        constant=_constant,
        operations=operation,
        fuses=True,
        spread=None if lanes == 1 else functools.partial(spread, lanes),
    )


def _constant(value: float, kind: str) -> str:
    return str(value) if kind == "i32" else f"0x{struct.pack('>d', value).hex()}"


def spread(lanes: int, name: str, scalar: str, kind: str) -> list[str]:
    """A vector of a scalar and its copies."""
    kinds = vector(kind, lanes)
    return [
        f"{name}.first = insertelement {kinds} poison, {kind} {scalar}, i64 0",
        f"{name} = shufflevector {kinds} {name}.first, {kinds} poison, "
        f"{vector('i32', lanes)} zeroinitializer",
    ]
