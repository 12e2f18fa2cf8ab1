"""Compiled loops: they compute what NumPy does, and touch no number that is not theirs."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import numpy_arrays
import random_rounding
from rule_loops import rule_loops, shadow_loops
from surefoot.engines.compiler import llvm, symbols
from surefoot.engines.compiler.loop import Loop
from surefoot.engines.compiler.representation import WORTH_A_THREAD, representation
from surefoot.rule import rounding
from surefoot.rule.rounding import Position

pytestmark = pytest.mark.once

SPECIAL = (0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e-30, 1e38, 0.3)


def run(
    body: Loop,
    scalars: Any,
    rows: list[list[np.ndarray]],
    threads: int = 1,
    keys: list[int] | None = None,
) -> None:
    """Run a loop on rows of arrays."""
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(
        llvm.address(representation(body), "run")
    )
    given = np.array(scalars, body.dtype)
    table = np.array(
        [
            [*(a.ctypes.data for a in row), row[0].size, key]
            for row, key in zip(rows, keys or [0] * len(rows), strict=True)
        ],
        np.int64,
    )
    assert function(given.ctypes.data, table.ctypes.data, len(rows), threads) == 0


def by_numpy(body: Loop, scalars: Any, arrays: list[np.ndarray], key: int = 0) -> list[Any]:
    """What a loop should make of a row of arrays."""
    own = list(np.array(scalars, body.dtype)[int(body.conditional) :])
    numbers = [a.astype("int32" if a.dtype == np.int16 else body.dtype) for a in arrays]
    position = Position(key, np.arange(arrays[0].size, dtype="int32"))
    return body.function(numpy_arrays, own, numbers, position)


@pytest.fixture(params=["this processor", "any processor"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Code for this processor, or for all of its kind: narrow vectors and no fused products."""
    if request.param == "any processor":
        monkeypatch.setattr(llvm, "_compiled", {})
        monkeypatch.setattr(llvm, "_features", lambda binding: "")
        monkeypatch.setattr(llvm._llvm(), "get_host_cpu_name", lambda: "")
    llvm.lanes.cache_clear()
    yield request.param
    llvm.lanes.cache_clear()


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

FOR_INTEGERS = {"integer", "to_bits", "from_bits", "shifted_right"}


def test_every_operation_has_a_test() -> None:
    names = {n for n, f in vars(symbols).items() if callable(f) and n.islower() and n[0] != "_"}
    assert names - FOR_SCALARS == set(numpy_arrays.__all__) | FOR_INTEGERS


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_numpy(name: str, dtype: str) -> None:
    arrays = [a.ravel() for a in np.meshgrid(*[np.array(SPECIAL, dtype)] * 3)]
    body = Loop(lambda xp, s, n, at: [OPERATIONS[name](xp, *n)], dtype, 0, (dtype, dtype, dtype), 1)
    right = OPERATIONS[name](numpy_arrays, *arrays).astype(dtype)
    ours = [a.copy() for a in arrays]
    run(body, [0.0], [ours])
    np.testing.assert_allclose(ours[0], right, rtol=2 * np.finfo(dtype).eps)
    signed = ~np.isnan(right) & ((right != 0) | (name not in ("maximum", "clip")))
    np.testing.assert_array_equal(np.signbit(ours[0])[signed], np.signbit(right)[signed])
    for array, as_before in zip(ours[1:], arrays[1:], strict=True):
        np.testing.assert_array_equal(array, as_before)


def test_a_loop_makes_no_decisions_in_python() -> None:
    body = Loop(
        lambda xp, s, n, at: [n[0] if n[0] > 0.0 else n[1]], "float32", 0, ("float32", "float32"), 1
    )
    with pytest.raises(TypeError, match="where"):
        representation(body)


@pytest.mark.parametrize("condition", [0.0, 1.0])
def test_conditions(condition: float) -> None:
    body = Loop(lambda xp, s, n, at: [n[0] * s[0]], "float32", 1, ("float32",), 1, conditional=True)
    array = np.arange(5, dtype="float32")
    run(body, [condition, 3.0], [[array]])
    np.testing.assert_array_equal(array, np.arange(5) * (3.0 if condition else 1.0))


def test_an_output_may_be_an_array_of_its_own() -> None:
    body = Loop(
        lambda xp, s, n, at: [n[0] + n[1], n[1] * 2.0],
        "float64",
        0,
        ("float64", "float64"),
        2,
        new=(0,),
    )
    x, y, new = np.arange(3.0), np.arange(3.0) + 1.0, np.zeros(3)
    run(body, [0.0], [[x, y, new]])
    np.testing.assert_array_equal(x, np.arange(3.0))
    np.testing.assert_array_equal(new, 2 * np.arange(3.0) + 1.0)
    np.testing.assert_array_equal(y, 2 * np.arange(3.0) + 2.0)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_share_the_numbers_of_all_rows(threads: int) -> None:
    sizes = (5, 3_000_001, 0, 1, 700_000, 2)
    assert sum(sizes) // 7 > WORTH_A_THREAD
    random = np.random.default_rng(0)
    values = [random.normal(size=n).astype("float32") for n in sizes]
    rows = [[x.copy(), 2.0 * x] for x in values]
    run(
        Loop(lambda xp, s, n, at: [n[0] * 0.5 + n[1]], "float32", 0, ("float32", "float32"), 1),
        [0.0],
        rows,
        threads,
    )
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


LOOPS = dict(rule_loops()) | dict(shadow_loops())
SIZES = [*range(71), *(2**k + d for k in range(7, 13) for d in (-1, 0, 1))]
BFLOAT16 = ml_dtypes.bfloat16


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("name", LOOPS)
def test_no_number_beside_the_arrays_is_touched(name: str, at_the_end: bool) -> None:
    """Neither read, where the process would die, nor written; and all numbers are computed."""
    body, scalars, _ = LOOPS[name]
    scalars = [1.0, *scalars] if body.conditional else scalars
    pages = 1 + (max(SIZES) * 8) // PAGE
    memory = [GuardedMemory(pages) for _ in range(body.inputs)]
    random = np.random.default_rng(0)
    key = 12345
    for size in SIZES:
        arrays = [
            m.array(size, dtype, at_the_end=at_the_end)
            for m, dtype in zip(memory, body.stored, strict=True)
        ]
        for array in arrays:
            numbers = np.abs(random.normal(size=size))
            array[...] = numbers * 2**12 if array.dtype == np.int16 else numbers
        right = by_numpy(body, scalars, arrays, key)
        run(body, scalars, [arrays], keys=[key])
        written = list(zip(arrays, right, strict=False))
        if "int16" in body.stored[: body.outputs]:
            lower = body.stored.index("int16")
            written = [_joined(written[0], written.pop(lower)), *written[1:]]
        for ours, theirs in written:
            # A sum that is contracted may end on the other side of a random bit's bound.
            step = 2.0**-7 if ours.dtype == BFLOAT16 else 16 * np.finfo(body.dtype).eps
            np.testing.assert_allclose(ours.astype(body.dtype), theirs, rtol=step, atol=step)
            if ours.dtype == BFLOAT16:
                assert np.sum(ours != theirs.astype(BFLOAT16)) <= 1 + size // 1000


def _joined(upper: tuple[Any, Any], lower: tuple[Any, Any]) -> tuple[Any, Any]:
    """What stands in the two halves of a variable: ours, and the right one."""
    ours, right = (
        rounding.joined(numpy_arrays, a.astype("float32"), b.astype("int32"))
        for a, b in zip(upper, lower, strict=True)
    )
    return ours, right


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("name", LOOPS)
def test_a_number_does_not_depend_on_what_its_neighbours_are(name: str) -> None:
    """Vectors with an infinite number, NaN or zeros among them are processed in another way."""
    body, scalars, squares = LOOPS[name]
    scalars = [1.0, *scalars] if body.conditional else scalars
    random = np.random.default_rng(0)
    size, special = 5000, np.arange(7, 5000, 41)
    usual = [np.abs(random.normal(size=size)) for _ in body.stored]
    usual = [
        (x * 2**12).astype("int16") if dtype == "int16" else _array(x, dtype)
        for x, dtype in zip(usual, body.stored, strict=True)
    ]
    for column, values in enumerate(usual):
        if values.dtype == np.int16:
            continue
        given = [x.copy() for x in usual]
        kinds = [np.inf, np.nan, 0.0] if column in squares else [np.inf, -np.inf, np.nan, 0.0]
        given[column][special] = np.resize(kinds, len(special))
        right = by_numpy(body, scalars, given)
        without = [x.copy() for x in usual]
        run(body, scalars, [without])
        run(body, scalars, [given])
        for ours, other, theirs in zip(given, without, right, strict=False):
            beside = np.delete(ours, special), np.delete(other, special)
            assert beside[0].tobytes() == beside[1].tobytes()
            if ours.dtype != np.int16:
                kind = np.isnan(ours[special]), np.isinf(ours[special])
                assert np.array_equal(kind, (np.isnan(theirs[special]), np.isinf(theirs[special])))


def _array(values: np.ndarray, dtype: str) -> np.ndarray:
    return values.astype(BFLOAT16 if dtype == "bfloat16" else dtype)


def test_what_is_compiled_depends_on_the_structure_only() -> None:
    names = {llvm.digest(representation(each.loop)) for each in LOOPS.values()}
    assert len(names) == len(LOOPS)
    again = [*rule_loops(), *shadow_loops()]
    assert {llvm.digest(representation(each.loop)) for _, each in again} == names


@pytest.mark.parametrize("threads", [1, 3])
def test_random_bits_depend_on_place_key_and_step_alone(threads: int) -> None:
    sizes = (3, 2_000_003, 70_000)
    key, low, high = -77, 5.0, 2.0
    exact = [np.random.default_rng(n).normal(size=n).astype("float32") for n in sizes]
    halves = ("float32", "bfloat16")

    def store(xp: Any, scalars: Any, numbers: Any, position: Position) -> list[Any]:
        new = rounding.rounded(xp, numbers[0], position.at_step(*scalars))
        return [numbers[0], new]

    rows = [[x.copy(), np.zeros(len(x), BFLOAT16)] for x in exact]
    run(Loop(store, "float32", 2, halves, 2), [low, high], rows, threads, [key] * 3)
    step_key = random_rounding.mixed((key + 2 * 2**16 + 5) % 2**32)
    for x, (_, stored) in zip(exact, rows, strict=True):
        random = random_rounding.bits_of_step(step_key, len(x))
        right = random_rounding.rounded(x, random & np.uint64(0xFFFF))
        np.testing.assert_array_equal(stored.astype("float32"), right)


ALL_BITS = float(np.uint32(0x7FFFFFFF).view("float32"))
"""The NaN of NVIDIA's GPUs: with anything added to its bits it is zero."""


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, ALL_BITS, 0.0, -0.0, 1e-42, 3.4e38])
def test_rounding_keeps_what_is_not_between_two_numbers(special: float) -> None:
    x = np.full(1000, special, "float32")
    position = Position(1, np.arange(1000, dtype="int32"))
    source = position.at_step(np.float32(1), np.float32(0))
    found = rounding.rounded(numpy_arrays, x, source)
    assert np.array_equal(found, found.astype(BFLOAT16).astype("float32"), equal_nan=True)
    if not 0 < abs(special) < np.inf:
        np.testing.assert_array_equal(found, x)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(x))


def test_halves_are_the_whole() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = np.arange(1000, dtype=np.uint32) * np.uint32(2**16) + np.uint32(2**15)
    exact = np.concatenate([bits, ties, ties | np.uint32(2**31)]).view("float32")
    exact = exact[np.abs(exact) < 3.38e38]  # above, bfloat16 has infinity only
    upper, lower = rounding.halves(numpy_arrays, exact)
    assert np.array_equal(upper, upper.astype(BFLOAT16).astype("float32"))
    assert lower.min() >= -(2**15)
    assert lower.max() < 2**15
    off = np.abs(exact.astype("float64") - upper)
    nearest = np.abs(exact.astype("float64") - exact.astype(BFLOAT16).astype("float64"))
    np.testing.assert_array_equal(off, nearest)
    whole = rounding.joined(numpy_arrays, upper, lower.astype("int16").astype("int32"))
    np.testing.assert_array_equal(whole.view("uint32"), exact.view("uint32"))


@pytest.mark.parametrize("special", [0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-133, 3.39e38])
def test_halves_that_do_not_belong_together(special: float) -> None:
    """The upper one, which was assigned since, counts."""
    upper = np.full(2**16, special, BFLOAT16).astype("float32")
    lower = np.arange(-(2**15), 2**15, dtype="int32")
    whole = rounding.joined(numpy_arrays, upper, lower)
    again = rounding.halves(numpy_arrays, whole).upper
    np.testing.assert_array_equal(again, upper)
    assert np.array_equal(np.isfinite(whole), np.isfinite(upper))
