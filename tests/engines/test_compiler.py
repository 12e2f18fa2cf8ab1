"""Compiled loops: they compute what NumPy does, and touch no number that is not theirs."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rule_loops import rule_loops
from surefoot.engines import loops
from surefoot.engines.compiler import llvm, loop, symbols
from surefoot.engines.compiler.loop import Loop
from surefoot.optimizers.lookahead import _fast_value, _synchronized

pytestmark = pytest.mark.once

SPECIAL = (0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e-30, 1e38, 0.3)
NUMPY = SimpleNamespace(
    abs=np.abs,
    clip=np.clip,
    isfinite=np.isfinite,
    maximum=np.maximum,
    minimum=np.minimum,
    ones_like=np.ones_like,
    sqrt=np.sqrt,
    where=np.where,
    zeros_like=np.zeros_like,
)


def run(body: Loop, scalars: Any, rows: list[list[np.ndarray]], threads: int = 1) -> None:
    """Run a loop on rows of arrays."""
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(
        llvm.address(body.representation(), "run")
    )
    given = np.array(scalars, body.dtype)
    table = np.array([[*(a.ctypes.data for a in row), row[0].size] for row in rows], np.int64)
    assert function(given.ctypes.data, table.ctypes.data, len(rows), threads) == 0


OPERATIONS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "abs": lambda xp, x, y, z: xp.abs(x),
    "add": lambda xp, x, y, z: x + y + 1.0,
    "sub": lambda xp, x, y, z: 1.0 - (x - y),
    "mul": lambda xp, x, y, z: 2.0 * (x * y),
    "div": lambda xp, x, y, z: x / y,
    "sqrt": lambda xp, x, y, z: xp.sqrt(x),
    "maximum": lambda xp, x, y, z: xp.maximum(x, y),
    "minimum": lambda xp, x, y, z: xp.minimum(x, y),
    "negative": lambda xp, x, y, z: -x,
    "reciprocal": lambda xp, x, y, z: 1.0 / x,
    "equal": lambda xp, x, y, z: xp.where(x == y, y, z),
    "greater_equal": lambda xp, x, y, z: xp.where(x >= y, y, z),
    "clip": lambda xp, x, y, z: xp.clip(x, -0.5, 1.0),
    "less": lambda xp, x, y, z: xp.where(x < y, y, z),
    "less_equal": lambda xp, x, y, z: xp.where(x <= y, y, z),
    "greater": lambda xp, x, y, z: xp.where(x > y, y, z),
    "not_equal": lambda xp, x, y, z: xp.where(x != y, y, z),
    "isfinite": lambda xp, x, y, z: xp.where(xp.isfinite(x), y, z),
    "and": lambda xp, x, y, z: xp.where((x < y) & (y > z), y, z),
    "like": lambda xp, x, y, z: x * xp.ones_like(x) + xp.zeros_like(x),
}


FOR_SCALARS = {"exp", "expm1", "log1p"}
"""Only kernels for GPUs compute scalars: `tests/kernels` has their test."""


def test_every_operation_has_a_test() -> None:
    names = {n for n, f in vars(symbols).items() if callable(f) and n.islower() and n[0] != "_"}
    assert names - FOR_SCALARS == set(vars(NUMPY))


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_numpy(name: str, dtype: str) -> None:
    arrays = [a.ravel() for a in np.meshgrid(*[np.array(SPECIAL, dtype)] * 3)]
    body = Loop(lambda xp, s, n: [OPERATIONS[name](xp, *n)], dtype, 0, 3, 1)
    right = OPERATIONS[name](NUMPY, *arrays).astype(dtype)
    ours = [a.copy() for a in arrays]
    run(body, [0.0], [ours])
    np.testing.assert_allclose(ours[0], right, rtol=2 * np.finfo(dtype).eps)
    signed = ~np.isnan(right) & ((right != 0) | (name not in ("maximum", "clip")))
    np.testing.assert_array_equal(np.signbit(ours[0])[signed], np.signbit(right)[signed])
    for array, as_before in zip(ours[1:], arrays[1:], strict=True):
        np.testing.assert_array_equal(array, as_before)


def test_a_loop_makes_no_decisions_in_python() -> None:
    body = Loop(lambda xp, s, n: [n[0] if n[0] > 0.0 else n[1]], "float32", 0, 2, 1)
    with pytest.raises(TypeError, match="where"):
        body.representation()


@pytest.mark.parametrize("condition", [0.0, 1.0])
def test_conditions(condition: float) -> None:
    body = Loop(lambda xp, s, n: [n[0] * s[0]], "float32", 1, 1, 1, conditional=True)
    array = np.arange(5, dtype="float32")
    run(body, [condition, 3.0], [[array]])
    np.testing.assert_array_equal(array, np.arange(5) * (3.0 if condition else 1.0))


def test_an_output_may_be_an_array_of_its_own() -> None:
    body = Loop(lambda xp, s, n: [n[0] + n[1], n[1] * 2.0], "float64", 0, 2, 2, new=(0,))
    x, y, new = np.arange(3.0), np.arange(3.0) + 1.0, np.zeros(3)
    run(body, [0.0], [[x, y, new]])
    np.testing.assert_array_equal(x, np.arange(3.0))
    np.testing.assert_array_equal(new, 2 * np.arange(3.0) + 1.0)
    np.testing.assert_array_equal(y, 2 * np.arange(3.0) + 2.0)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_share_the_numbers_of_all_rows(threads: int) -> None:
    sizes = (5, 3_000_001, 0, 1, 700_000, 2)
    assert sum(sizes) // 7 > loop.WORTH_A_THREAD
    random = np.random.default_rng(0)
    values = [random.normal(size=n).astype("float32") for n in sizes]
    rows = [[x.copy(), 2.0 * x] for x in values]
    run(Loop(lambda xp, s, n: [n[0] * 0.5 + n[1]], "float32", 0, 2, 1), [0.0], rows, threads)
    for value, (changed, read) in zip(values, rows, strict=True):
        np.testing.assert_array_equal(changed, value * np.float32(2.5))
        np.testing.assert_array_equal(read, value * np.float32(2.0))


# Guard pages.

PAGE = mmap.PAGESIZE


class GuardedMemory:
    """Pages that may be used between two that may not be touched: the process would die."""

    def __init__(self, pages: int) -> None:
        self.bytes = pages * PAGE
        self._memory = mmap.mmap(-1, self.bytes + 2 * PAGE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (self.start - PAGE, self.start + self.bytes):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0

    def array(self, size: int, dtype: str, *, at_the_end: bool) -> np.ndarray:
        """An array directly behind the first guard, or before the last."""
        kind = np.dtype(dtype)
        offset = self.bytes - size * kind.itemsize if at_the_end else 0
        buffer = (ctypes.c_char * (size * kind.itemsize)).from_address(self.start + offset)
        return np.frombuffer(buffer, kind)


def every_loop() -> Iterator[tuple[str, Loop]]:
    """The loops that the library makes, in both dtypes."""
    for name, rule in rule_loops():
        yield name, rule.loop
    for dtype in ("float32", "float64"):
        # The slow weights from the fast ones, and where both meet.
        start = loops._assigned(_fast_value, 1, (1, None))
        yield f"start-{dtype}", Loop(start, dtype, 0, 2, 1, conditional=True)
        meet = loops._assigned(_synchronized, 2, (0, None, 1))
        yield f"meet-{dtype}", Loop(meet, dtype, 1, 2, 2, conditional=True)


LOOPS = dict(every_loop())
RULES = dict(rule_loops())
SIZES = [*range(71), *(2**k + d for k in range(7, 13) for d in (-1, 0, 1))]


def scalars_for(name: str) -> list[float]:
    body = LOOPS[name]
    return [1.0, *[0.25] * body.scalars] if body.conditional else RULES[name].scalars


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("name", LOOPS)
def test_no_number_beside_the_arrays_is_touched(name: str, at_the_end: bool) -> None:
    """Neither read, where the process would die, nor written; and all numbers are computed."""
    body = LOOPS[name]
    pages = 1 + (max(SIZES) * 8) // PAGE
    memory = [GuardedMemory(pages) for _ in range(body.inputs)]
    random = np.random.default_rng(0)
    scalars = np.array(scalars_for(name), body.dtype)
    own = list(scalars[int(body.conditional) :])
    for size in SIZES:
        arrays = [m.array(size, body.dtype, at_the_end=at_the_end) for m in memory]
        for array in arrays:
            array[...] = np.abs(random.normal(size=size))
        right = body.function(NUMPY, own, [a.copy() for a in arrays])
        run(body, scalars, [arrays])
        for ours, theirs in zip(arrays, right, strict=False):
            rounding = 16 * np.finfo(body.dtype).eps
            np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding)


def test_what_is_compiled_depends_on_the_structure_only() -> None:
    names = {llvm.digest(body.representation()) for body in LOOPS.values()}
    assert len(names) == len(LOOPS)
    again = {llvm.digest(body.representation()) for _, body in every_loop()}
    assert again == names
