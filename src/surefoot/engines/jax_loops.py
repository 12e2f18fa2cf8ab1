"""Elementwise functions of many tensors in one loop, in place, on a CPU.

There XLA makes a loop for each result, and each reads its operands anew: 40 bytes a parameter
where the rule needs 28. Here JAX traces the function, the same that XLA would get, and Numba
compiles what was traced to one loop. Without Numba, on other devices and on several of them,
with operations not known here, the function is left to XLA.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from surefoot.engines import jax_foreign
from surefoot.rule import Array

Elementwise = Callable[..., list[Array]]

_EXPRESSIONS = {
    "abs": "abs({0})",
    "add": "{0} + {1}",
    "and": "{0} & {1}",
    "clamp": "{0} if {1} < {0} else ({2} if {1} > {2} else {1})",
    "copy": "{0}",
    "convert_element_type": "{0}",
    "div": "{0} / {1}",
    "eq": "{0} == {1}",
    "ge": "{0} >= {1}",
    "gt": "{0} > {1}",
    "le": "{0} <= {1}",
    "lt": "{0} < {1}",
    "max": "{0} if {0} > {1} or {0} != {0} else {1}",
    "min": "{0} if {0} < {1} or {0} != {0} else {1}",
    "mul": "{0} * {1}",
    "ne": "{0} != {1}",
    "neg": "-{0}",
    "not": "not {0}",
    "or": "{0} | {1}",
    "select_n": "{2} if {0} else {1}",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "sub": "{0} - {1}",
}
"""What loops are made of, by JAX's names; all of it for numbers of one dtype and booleans."""

_PARTS_PER_CORE = 16

_SMALL = 1 << 17
"""Numbers that one core updates in the time that several need to agree on it."""


def shared_out(sizes: list[int]) -> list[bool]:
    """Which tensors to give to loops, each of which runs on one core.

    A large tensor that is more than a core's share of the work would let the others wait.
    """
    share = max(sum(sizes) / _cores(), _SMALL)
    return [size <= share for size in sizes]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def may_serve(arrays: list[Array]) -> bool:
    """Whether a loop may take these arrays: traced ones of one dtype, on the only device."""
    dtypes = {array.dtype.name for array in arrays}
    devices = jax.devices()
    return (
        len(dtypes) == 1
        and dtypes <= {"float32", "float64"}
        and len({array.shape for array in arrays}) == 1
        and all(isinstance(array, jax.core.Tracer) for array in arrays)
        and len(devices) == 1
        and devices[0].platform == "cpu"
        and jax_foreign.is_available()
    )


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
        new: list[list[Array]] = []
        for part in _parts(rows):
            # Where somebody asks for gradients through a step, the function as XLA has it.
            call = jax.custom_jvp(self._call)
            call.defjvp(lambda values, tangents: jax.jvp(self._plain, values, tangents))
            results = call(self.scalars, *itertools.chain(*part))
            new += [results[i : i + self.changed] for i in range(0, len(results), self.changed)]
        return new

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


def _parts(rows: list[list[Array]]) -> Iterator[list[list[Array]]]:
    """The rows in calls long enough to be worth calling, and enough of them for all cores."""
    enough = sum(row[0].size for row in rows) / (_PARTS_PER_CORE * _cores())
    part: list[list[Array]] = []
    size = 0
    for row in rows:
        part.append(row)
        size += row[0].size
        if size >= enough:
            yield part
            part, size = [], 0
    if part:
        yield part


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
    try:
        lines = _Lines(closed.jaxpr, dtype.name, condition is not None)
    except _UnknownOperationError:
        return None
    first = int(condition is not None)
    kinds = [jnp.asarray(s).dtype for s in closed.consts]

    def traced(vector: Array, *numbers: Array) -> list[Array]:
        values = [vector[first + i].astype(kind) for i, kind in enumerate(kinds)]
        return list(core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, values))(*numbers))

    return Loop(
        target=jax_foreign.target(
            lines.source(changed, kept), dtype.name, len(arrays), changed, kept
        ),
        length=len(arrays),
        scalars=jnp.stack(
            [jnp.asarray(s).astype(dtype) for s in scalars] or [jnp.zeros((), dtype)]
        ),
        traced=traced,
        changed=changed,
        kept=kept,
        conditional=condition is not None,
    )


class _UnknownOperationError(Exception):
    """A function holds what loops are not made of."""


class _Lines:
    """The lines of a loop, and those that need to run only once, before it."""

    def __init__(self, jaxpr: Any, dtype: str, conditional: bool) -> None:
        self._dtype = dtype
        self._before: list[str] = []
        self._within: list[str] = []
        self._varying: set[str] = set()
        self._count = 0
        if conditional:
            self._before += ["if scalars[0] == 0:", "    return"]
        scalars = []
        for place, variable in enumerate(jaxpr.constvars, start=int(conditional)):
            is_flag = variable.aval.dtype.name == "bool"
            scalars.append(self._line(f"scalars[{place}]{' != 0' if is_flag else ''}", []))
        self._numbers = [f"x{place}" for place in range(len(jaxpr.invars))]
        self._varying.update(self._numbers)
        names = dict(
            zip([*jaxpr.constvars, *jaxpr.invars], [*scalars, *self._numbers], strict=True)
        )
        self._results = self._inlined(jaxpr, names)

    def source(self, changed: int, kept: frozenset[int]) -> str:
        """The function ``loop`` of the scalars, the arrays, and new ones for those kept."""
        arrays = [f"a{place}" for place in range(len(self._numbers))]
        new = {place: f"new{place}" for place in sorted(kept)}
        read = [f"{x} = {a}[i]" for x, a in zip(self._numbers, arrays, strict=True)]
        written = [
            f"{new.get(place, arrays[place])}[i] = {self._results[place]}"
            for place in range(changed)
            if place in kept or self._results[place] != self._numbers[place]
        ]
        return "\n".join(
            [
                f"def loop(scalars, {', '.join([*arrays, *new.values()])}):",
                *(f"    {line}" for line in self._before),
                "    for i in range(a0.size):",
                *(f"        {line}" for line in [*read, *self._within, *written]),
                "",
            ]
        )

    def _line(self, expression: str, operands: list[str]) -> str:
        name = f"t{self._count}"
        self._count += 1
        if self._varying.isdisjoint(operands):
            self._before.append(f"{name} = {expression}")
        else:
            self._within.append(f"{name} = {expression}")
            self._varying.add(name)
        return name

    def _inlined(self, jaxpr: Any, names: dict[Any, str]) -> list[str]:
        def name_of(operand: Any) -> str:
            if not isinstance(operand, core.Literal):
                return names[operand]
            value = operand.val
            return str(bool(value)) if operand.aval.dtype == bool else f"real({float(value)!r})"

        for equation in jaxpr.eqns:
            operands = [name_of(operand) for operand in equation.invars]
            inner = equation.params.get("jaxpr")
            if isinstance(inner, core.ClosedJaxpr) and not inner.consts:
                found = self._inlined(
                    inner.jaxpr, dict(zip(inner.jaxpr.invars, operands, strict=True))
                )
            else:
                found = [self._line(self._expression(equation).format(*operands), operands)]
            names.update(zip(equation.outvars, found, strict=True))
        return [name_of(result) for result in jaxpr.outvars]

    def _expression(self, equation: Any) -> str:
        name = equation.primitive.name
        avals = [v.aval for v in [*equation.invars, *equation.outvars]]
        known = {self._dtype, "bool"}
        kinds = {a.dtype.name for a in avals}
        if name == "integer_pow" and equation.params["y"] == 2:
            name = "square"
        converts = name == "convert_element_type" and len(kinds) > 1
        logical = name in ("and", "or", "not") and kinds != {"bool"}
        if name not in _EXPRESSIONS or not kinds <= known or converts or logical:
            raise _UnknownOperationError(name)
        if any(a.shape for a in avals):
            raise _UnknownOperationError(f"{name} of arrays")
        return _EXPRESSIONS[name]
