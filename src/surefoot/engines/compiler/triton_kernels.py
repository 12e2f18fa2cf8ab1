"""Loops and scalars as Triton kernels, for GPUs.

Triton comes with PyTorch where that has been built for CUDA, and compiles a kernel when it is first
called. What a kernel computes is written once, in `surefoot.rule`: it runs on symbols, which
become the lines of the kernel. Nothing is contracted or approximated, so a kernel computes bit for
bit what PyTorch's own operations would.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import math
import sys
from types import ModuleType
from typing import Any

from surefoot.engines.compiler import llvm
from surefoot.engines.compiler.builders import Language, LoopBuilder
from surefoot.engines.compiler.loop import Loop, Obstacle

BLOCK = 1024
"""Numbers of one array that a program updates."""

WARPS = 8
"""Groups of 32 threads that share a block."""

_OPERATIONS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "remainder": "{} % {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
    "and": "tl.where({}, {}, False)",
    "select": "tl.where({}, {}, {})",
    "abs": "tl.abs({})",
    "sqrt": "tl.sqrt({})",
    "exp": "tl.exp({})",
    "log": "tl.log({})",
    "exclusive_or": "{} ^ {}",
    "to_integer": "{}.to(tl.int32)",
    "to_bits": "{}.to(tl.int32, bitcast=True)",
    "from_bits": "{}.to(tl.float32, bitcast=True)",
    "shift_right": "({}.to(tl.uint32, bitcast=True) >> {}).to(tl.int32, bitcast=True)",
}

_STORED = {"bfloat16": "tl.bfloat16", "int16": "tl.int16"}

_INTEGER_OPERATIONS = {"and": "{} & {}"}

# In float32, Triton's own division and root are approximations.
_ROUNDED = {"divide": "tl.div_rn({}, {})", "sqrt": "tl.sqrt_rn({})"}


def _operation(name: str, dtype: str) -> str:
    own = {"float32": _ROUNDED, "int32": _INTEGER_OPERATIONS}.get(dtype, {})
    return own.get(name) or _OPERATIONS[name]


def _constant(value: float, kind: str) -> str:
    if kind == "tl.int32":
        return repr(value)  # with a bare integer, the other operand stays what it is
    # A bare number would first become a float32.
    number = repr(value) if math.isfinite(value) else f'float("{value}")'
    return f"tl.full([], {number}, {kind})"


TRITON = Language(
    types={name: f"tl.{name}" for name in ("float32", "float64", "int32")} | {"bool": "tl.int1"},
    prefix="",
    constant=_constant,
    operations=_operation,
)


@functools.cache
def obstacle() -> Obstacle | None:
    """Why no kernel can be compiled, or None."""
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        return Obstacle("TensorFlow is in this process: Triton, imported after it, would abort it")
    try:
        _triton()
    except ModuleNotFoundError:
        return Obstacle("Triton is not installed: pip install triton", is_only_missing=True)
    except (ImportError, OSError) as error:
        return Obstacle(f"Triton cannot be imported ({error})")
    return None


@functools.cache
def loop_kernel(loop: Loop) -> Any:
    """A kernel that runs a loop on rows of arrays, in place.

    Its arguments are a table of int64, in each row the addresses of the arrays, how many numbers
    each has, and the key of the row; a table of int32, for each program its row and its block; the
    scalars, float64, a condition first; and the alignment of the arrays in bytes.
    """
    builder = LoopBuilder(loop.dtype, TRITON)
    results = loop.written_by(builder)
    first = int(loop.conditional)
    width = loop.arrays + 2
    kinds = [_STORED.get(form, builder.type) for form in loop.stored]
    body = [
        "place = start.to(tl.int32) + at",
        *(
            f"x{i} = tl.load(a{i} + at MASK).to({'tl.int32' if form == 'int16' else builder.type})"
            for i, form in enumerate(loop.stored)
        ),
        *builder.in_loop,
        *(
            f"tl.store(a{place} + at, {result.name}.to({kinds[place]}) MASK)"
            for place, result in enumerate(results)
            if result.name != f"x{place}"
        ),
    ]
    lines = [
        f"row = table + tl.load(programs + 2 * tl.program_id(0)) * {width}",
        "start = tl.load(programs + 2 * tl.program_id(0) + 1).to(tl.int64) * BLOCK",
        f"count = tl.load(row + {loop.arrays})",
        f"key = tl.load(row + {loop.arrays + 1}).to(tl.int32)",
        *(f"s{i} = tl.load(scalars + {i}).to({builder.type})" for i in range(first + loop.scalars)),
        *builder.before_loop,
        *(
            f"a{i} = tl.multiple_of(tl.load(row + {i}).to(tl.pointer_type({kind})), "
            "ALIGNMENT) + start"
            for i, kind in enumerate(kinds)
        ),
        "at = tl.arange(0, BLOCK)",
        # Without a mask, all threads read and write 16 bytes at a time.
        "if start + BLOCK <= count:",
        *(f"    {line.replace(' MASK', '')}" for line in body),
        "else:",
        "    inside = start + at < count",
        *(f"    {line.replace(' MASK', ', mask=inside')}" for line in body),
    ]
    if loop.conditional:
        lines = [*lines[: 4 + 1], "if s0 != 0.0:", *(f"    {line}" for line in lines[5:])]
    arguments = ["table", "programs", "scalars", "ALIGNMENT: tl.constexpr", "BLOCK: tl.constexpr"]
    return _kernel(arguments, lines)


@functools.cache
def scalars_kernel(
    inputs: tuple[tuple[int, int], ...],
    instructions: tuple[str, ...],
    results: tuple[str, ...],
    state: tuple[tuple[int, str], ...],
    *,
    conditional: bool,
) -> Any:
    """A kernel of a single program that computes the scalars of a step, in float64.

    Its arguments are the tensors that it reads, a condition if it is conditional, and a vector for
    the results.

    Args:
        inputs: For each symbol i0, i1 and so on, the position of its tensor and its place there.
        instructions: What is computed of them.
        results: What of that goes to the vector.
        state: Positions of tensors of one number, and their new values. Where the condition is 0
            they stay as they are.
        conditional: Whether there is a condition.
    """
    tensors = 1 + max(position for position, _ in inputs)
    lines = [
        *(
            f"i{i} = tl.load(t{position} + {place}).to(tl.float64)"
            for i, (position, place) in enumerate(inputs)
        ),
        *instructions,
        *(f"tl.store(results + {i}, ({r}).to(tl.float64))" for i, r in enumerate(results)),
    ]
    writes = [f"tl.store(t{position}, {value})" for position, value in state]
    if conditional and writes:
        writes = ["if tl.load(condition) != 0.0:", *(f"    {line}" for line in writes)]
    arguments = [f"t{i}" for i in range(tensors)]
    return _kernel([*arguments, *(["condition"] * conditional), "results"], [*lines, *writes])


def _kernel(arguments: list[str], lines: list[str]) -> Any:
    source = "".join(
        [f"def kernel({', '.join(arguments)}):\n", *(f"    {line}\n" for line in lines)]
    )
    return _compiled(source)


@functools.cache
def _compiled(source: str) -> Any:
    triton = _triton()
    # Triton reads a function's source by its file, which `linecache` may know without there
    # being one.
    file = f"<surefoot kernel {llvm.digest(source)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    names: dict[str, Any] = {"tl": triton.language, "__name__": __name__}
    exec(compile(source, file, "exec"), names)
    return triton.jit(names["kernel"])


@functools.cache
def _triton() -> ModuleType:
    module = importlib.import_module("triton")
    importlib.import_module("triton.language")
    return module
