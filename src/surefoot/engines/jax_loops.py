"""Loops on JAX, in place, called by XLA, which knows the same functions for all else.

Where LLVM is not installed, on other devices and on several of them, and where a function holds
operations not known here, it is left to XLA.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from surefoot.engines import jax_foreign, plain
from surefoot.engines.loops import Elementwise, Lines, Row, UnknownOperationError
from surefoot.rule import Array

_parameters_kept: ContextVar[bool] = ContextVar("parameters_kept", default=False)


@contextlib.contextmanager
def parameters_kept() -> Iterator[None]:
    """Trace a step whose caller holds on to the old parameters: it gets new ones."""
    token = _parameters_kept.set(True)
    try:
        yield
    finally:
        _parameters_kept.reset(token)


def array_namespace() -> Any:
    """`jax.numpy`."""
    return jnp


def cast(value: Array, dtype: Any) -> Array:
    """A value in another dtype."""
    return jnp.asarray(value).astype(dtype)


def clipped(gradient: Array, bound: float | None) -> Array:
    """A gradient within ``bound`` on both sides of zero."""
    return gradient if bound is None else jnp.clip(gradient, -bound, bound)


def servable(rows: list[Row]) -> list[bool]:
    """Whether a loop may take each of these rows."""
    return [may_serve([*(v.value for v in row.variables), *row.given]) for row in rows]


def may_serve(arrays: list[Array]) -> bool:
    """Whether a loop may take these arrays: traced ones of one dtype, on the only device."""
    dtypes = {array.dtype.name for array in arrays}
    return (
        len(dtypes) == 1
        and dtypes <= {"float32", "float64"}
        and len({array.shape for array in arrays}) == 1
        and all(isinstance(array, jax.core.Tracer) for array in arrays)
        and is_possible()
    )


def is_possible() -> bool:
    """Whether XLA may call functions of this process: on the only device."""
    devices = jax.devices()
    return len(devices) == 1 and devices[0].platform == "cpu" and jax_foreign.is_available()


def samples(plainly: Callable[..., Array], arrays: list[Array], count: int) -> Array:
    """``count`` numbers of each traced array in float32, in rows, by one call.

    XLA would need a second to compile as much for 161 arrays.

    Args:
        plainly: The same of the arrays, for XLA, where somebody asks for gradients.
        arrays: In float32.
        count: How many.
    """
    strides = np.array([plain.probe_stride(array.size, count) for array in arrays], np.int64)

    def called(*arrays: Array) -> Array:
        result = jax.ShapeDtypeStruct((len(arrays), count), jnp.float32)
        call = jax.ffi.ffi_call(jax_foreign.numbers(count), result, vmap_method="sequential")
        return call(strides.view(np.int32), *arrays)  # halves: JAX may have no words

    call = jax.custom_jvp(called)
    call.defjvp(lambda values, tangents: jax.jvp(plainly, values, tangents))
    return call(*arrays)


def run(function: Elementwise, rows: list[Row], *, condition: Array | None = None) -> bool:
    """Give each row's variables their new values, where ``condition`` holds: see `Looping`."""
    changed = len(rows[0].changed)
    # Variables that are read are given back as they were: who overwrites them later waits for
    # this loop, and XLA need not copy them. Parameters that are kept nobody overwrites.
    length = changed if _parameters_kept.get() else len(rows[0].variables)

    def with_read(*numbers: Array) -> list[Array]:
        return [*function(*numbers), *numbers[changed:length]]

    # A loop that may do nothing cannot fill new memory.
    kept = frozenset([0] if _parameters_kept.get() and condition is None else [])
    values = [[*(v.value for v in row.variables), *row.given] for row in rows]
    loop = loop_of(with_read, values[0], length, kept=kept, condition=condition)
    if loop is None:
        return False
    for row, new in zip(rows, loop(values), strict=True):
        for variable, value in zip(row.variables, new, strict=False):
            variable.assign(value)
    return True


@dataclass(frozen=True)
class Loop:
    """An elementwise function ``(*changed, *read) -> changed`` as one loop.

    Attributes:
        target: The name that XLA knows it by.
        length: How many arrays it takes.
        scalars: What the function had closed over, as a vector, the condition first.
        traced: The function of numbers, and of the scalars before them.
        changed: How many arrays it changes.
        kept: Which of them are not overwritten.
        conditional: Whether it does nothing unless the first scalar is true.
    """

    target: str
    length: int
    scalars: Array
    traced: Elementwise
    changed: int
    kept: frozenset[int]
    conditional: bool

    def __call__(self, rows: list[list[Array]]) -> list[list[Array]]:
        """What changes of each row of arrays of one shape."""
        # Where somebody asks for gradients through a step, the function as XLA has it.
        call = jax.custom_jvp(self._call)
        call.defjvp(lambda values, tangents: jax.jvp(self._plain, values, tangents))
        results = call(self.scalars, *itertools.chain(*rows))
        return [results[i : i + self.changed] for i in range(0, len(results), self.changed)]

    def _call(self, scalars: Array, *arrays: Array) -> list[Array]:
        results: list[Any] = []
        aliases: dict[int, int] = {}
        for place, array in enumerate(arrays):
            within = place % self.length
            if within < self.changed:
                if within not in self.kept:
                    aliases[1 + place] = len(results)
                results.append(jax.ShapeDtypeStruct(array.shape, array.dtype))
        call = jax.ffi.ffi_call(
            self.target, results, vmap_method="sequential", input_output_aliases=aliases
        )
        return list(call(scalars, *arrays))

    def _plain(self, scalars: Array, *arrays: Array) -> list[Array]:
        return [
            new
            for first in range(0, len(arrays), self.length)
            for new in self._plain_row(scalars, arrays[first : first + self.length])
        ]

    def _plain_row(self, scalars: Array, row: tuple[Array, ...]) -> list[Array]:
        def of_numbers(*numbers: Array) -> list[Array]:
            return self.traced(scalars, *numbers)

        flat = jax.vmap(of_numbers)(*(array.reshape(-1) for array in row))
        new = [value.reshape(row[0].shape) for value in flat]
        if not self.conditional:
            return new
        return [jnp.where(scalars[0] != 0, a, b) for a, b in zip(new, row, strict=False)]


def loop_of(
    function: Elementwise,
    arrays: list[Array],
    changed: int,
    *,
    kept: frozenset[int] = frozenset(),
    condition: Array | None = None,
) -> Loop | None:
    """Make a loop of a function; None where it holds what loops are not made of.

    Args:
        function: Takes numbers; returns the first ``changed`` of them anew. It may close over
            scalars.
        arrays: Arrays of the dtype that it will be called with, of any shape.
        changed: How many of them it changes.
        kept: Which of those are not to be overwritten.
        condition: A scalar; where it is false, nothing is done.
    """
    dtype = arrays[0].dtype
    number = jax.ShapeDtypeStruct((), dtype)
    closed = jax.make_jaxpr(function)(*[number] * len(arrays))
    scalars = [*([] if condition is None else [condition]), *closed.consts]
    if any(jnp.ndim(s) or jnp.asarray(s).dtype not in (dtype, jnp.bool_) for s in scalars):
        return None
    lines = Lines(len(arrays), dtype.name, dtype.name, conditional=condition is not None)
    try:
        loop = lines.loop(_written_down(closed.jaxpr, lines, dtype.name), kept)
    except UnknownOperationError:
        return None
    first = int(condition is not None)
    kinds = [jnp.asarray(s).dtype for s in closed.consts]

    def traced(vector: Array, *numbers: Array) -> list[Array]:
        values = [vector[first + i].astype(kind) for i, kind in enumerate(kinds)]
        return list(core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, values))(*numbers))

    return Loop(
        target=jax_foreign.target(loop, len(arrays), changed, kept),
        length=len(arrays),
        scalars=jnp.stack(
            [jnp.asarray(s).astype(dtype) for s in scalars] or [jnp.zeros((), dtype)]
        ),
        traced=traced,
        changed=changed,
        kept=kept,
        conditional=condition is not None,
    )


def _written_down(jaxpr: Any, lines: Lines, dtype: str) -> list[str]:
    """Write a traced function down; return its results."""
    scalars = [lines.scalar(v.aval.dtype.name) for v in jaxpr.constvars]
    names = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*scalars, *lines.numbers], strict=True))
    return _inlined(jaxpr, names, lines, dtype)


def _inlined(jaxpr: Any, names: dict[Any, str], lines: Lines, dtype: str) -> list[str]:
    def name_of(operand: Any) -> str:
        if isinstance(operand, core.Literal):
            return lines.constant(operand.val, operand.aval.dtype.name)
        return names[operand]

    for equation in jaxpr.eqns:
        operands = [name_of(operand) for operand in equation.invars]
        inner = equation.params.get("jaxpr")
        if isinstance(inner, core.ClosedJaxpr) and not inner.consts:
            within = dict(zip(inner.jaxpr.invars, operands, strict=True))
            found = _inlined(inner.jaxpr, within, lines, dtype)
        else:
            found = [_operation(equation, operands, lines, dtype)]
        names.update(zip(equation.outvars, found, strict=True))
    return [name_of(result) for result in jaxpr.outvars]


def _operation(equation: Any, operands: list[str], lines: Lines, dtype: str) -> str:
    name = equation.primitive.name
    avals = [v.aval for v in [*equation.invars, *equation.outvars]]
    kinds = {a.dtype.name for a in avals}
    logical = name in ("and", "or", "not") and kinds != {"bool"}
    if not kinds <= {dtype, "bool"} or logical or any(a.shape for a in avals):
        raise UnknownOperationError(f"{name} of {avals}")
    if name == "integer_pow" and equation.params["y"] == 2:
        return lines.operation("square", *operands)
    if name == "select_n":
        flag, where_false, where_true = operands
        return lines.operation("select", flag, where_true, where_false)
    if name == "convert_element_type" and len(kinds) == 1:
        return lines.operation("copy", *operands)
    return lines.operation(name, *operands)
