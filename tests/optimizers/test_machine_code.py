"""The language of loops: what LLVM makes of it computes what Python does."""

from __future__ import annotations

import ctypes
import itertools
import math
import struct
from typing import Any

import numpy as np
import pytest

from surefoot.engines.compiled import handler
from surefoot.engines.language import WORD
from surefoot.engines.loops import EXPRESSIONS, Lines
from surefoot.engines.machine_code import MachineCode

pytestmark = pytest.mark.once

WORDS = """
def sum_of(first, last):
    total = 0
    for i in range(first, last):
        for j in range(i):
            if j * 3 > i:
                total += i - j
            else:
                total -= 1
    return total

def branches(x, y):
    if x == y:
        return 0
    if x < y:
        if x >= 2:
            return 1
    else:
        x, y = y, x
        x += LARGE
    return x // 4 - y * 2

def bits(x, y):
    return (x << 3 | y) & ~5 | x >> 1

def digits(x, y):
    found, left = 0, x * 100 + y
    while left > 0:
        found, left = found + 1, left // 10
    return found

def choices(x, y):
    return sum_of(min(x, y), max(x, y)) if (x <= y) | (x != 3) & (not y > 7) else -x
"""


def called(code: MachineCode, name: str, arguments: int) -> Any:
    return ctypes.CFUNCTYPE(WORD, *[WORD] * arguments)(code.address(name))


@pytest.mark.parametrize("name", ["sum_of", "branches", "bits", "digits", "choices"])
def test_words_are_those_of_python(name: str) -> None:
    python: dict[str, Any] = {"LARGE": 1 << 40}
    exec(WORDS, python)
    code = MachineCode(WORDS, {"LARGE": 1 << 40}, {})
    ours = called(code, name, 2)
    for x, y in itertools.product(range(12), repeat=2):
        assert ours(x, y) == python[name](x, y), (x, y)


SPECIAL = (0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e-30, 1e38, 0.3)
RIGHT: dict[str, Any] = {
    "abs": np.abs,
    "add": np.add,
    "clamp": lambda low, x, high: np.where(x < low, low, np.where(x > high, high, x)),
    "copy": np.positive,
    "div": np.divide,
    "exp": np.exp,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
}
COMPARISONS = {
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "ne": np.not_equal,
}
LOGIC = {"and": np.logical_and, "not": np.logical_not, "or": np.logical_or, "select": np.where}


def test_every_operation_has_a_test() -> None:
    assert EXPRESSIONS.keys() == RIGHT.keys() | COMPARISONS.keys() | LOGIC.keys()


def run(lines: Lines, result: str, arrays: list[np.ndarray], scalars: np.ndarray) -> None:
    """Run a loop of these lines, which writes into the first array."""
    code = handler(lines.loop([result]))
    table = np.array([*(a.ctypes.data for a in arrays), arrays[0].size], np.int64)
    assert called(code, "run", 4)(scalars.ctypes.data, table.ctypes.data, 1, 2) == 0


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*RIGHT, *COMPARISONS, *LOGIC])
def test_operations_are_those_of_numpy(name: str, dtype: str) -> None:
    operands = (RIGHT | COMPARISONS | LOGIC)[name]
    arrays = [a.ravel() for a in np.meshgrid(*[np.array(SPECIAL, dtype)] * 3)]
    lines = Lines(3, dtype, dtype)
    x, y, z = lines.numbers
    if name in RIGHT:
        needed = 1 + max(place for place in range(3) if f"{{{place}}}" in EXPRESSIONS[name])
        result = lines.operation(name, *lines.numbers[:needed])
        right = operands(*arrays[:needed])
    else:
        less = lines.operation("lt", x, y)
        more = lines.operation("ge", y, z)
        flags = [arrays[0] < arrays[1], arrays[1] >= arrays[2]]
        if name in COMPARISONS:
            flag, where = lines.operation(name, x, y), operands(*arrays[:2])
        elif name == "select":
            flag, where = less, flags[0]
        else:
            needed = 1 if name == "not" else 2
            flag, where = lines.operation(name, *[less, more][:needed]), operands(*flags[:needed])
        result = lines.operation("select", flag, y, z)
        right = np.where(where, arrays[1], arrays[2])
    ours = [a.copy() for a in arrays]
    run(lines, result, ours, np.zeros(1))
    np.testing.assert_allclose(ours[0], right.astype(dtype), rtol=2 * np.finfo(dtype).eps)
    # Of zeros of both signs NumPy does not say which is the larger.
    signed = ~np.isnan(right) & ((right != 0) | (name not in ("max", "min")))
    np.testing.assert_array_equal(np.signbit(ours[0])[signed], np.signbit(right)[signed])
    for array, as_before in zip(ours[1:], arrays[1:], strict=True):
        np.testing.assert_array_equal(array, as_before)


@pytest.mark.parametrize("held", ["float32", "float64"])
@pytest.mark.parametrize("condition", [0.0, 1.0])
def test_scalars_and_conditions(condition: float, held: str) -> None:
    lines = Lines(1, "float32", held, conditional=True)
    flag, factor = lines.scalar("bool"), lines.scalar("float32")
    (x,) = lines.numbers
    other = lines.operation("mul", x, lines.converted(lines.constant(-0.5, "float64"), "float32"))
    result = lines.operation("select", flag, lines.operation("mul", x, factor), other)
    for scalar in (0.0, 1.0):
        array = np.arange(5, dtype="float32")
        run(lines, result, [array], np.array([condition, scalar, 3.0], held))
        right = np.arange(5) * (1.0 if not condition else 3.0 if scalar else -0.5)
        np.testing.assert_array_equal(array, right)


@pytest.mark.parametrize(
    "body",
    [
        "del x",
        "return x and y",
        "return 1 < x < 3",
        "return unknown(x)",
        "return unknown",
        "x = 1.5",
        "return x + 1.5",
        "return x % y",
        "return x / y",
        "return sqrt(x)",
        "return float32(x)",
        "x.y = 1",
    ],
)
def test_what_the_language_has_not_is_an_error(body: str) -> None:
    with pytest.raises(SyntaxError):
        MachineCode(f"def f(x, y):\n    {body}\n", {}, {})


def test_constants_keep_all_their_digits() -> None:
    values = [0.1, 1e-300, -math.pi, math.inf]
    for value in values:
        lines = Lines(1, "float64", "float64")
        array = np.zeros(1)
        run(lines, lines.operation("add", lines.number(value), lines.numbers[0]), [array], array)
        assert struct.pack("d", array[0]) == struct.pack("d", value)
