"""Elementwise functions of many tensors in one loop, in place, on a CPU.

A compiler of a backend makes a loop for each result, and each reads its operands anew: 40 bytes a
parameter where the rule needs 28. Here a backend traces the function, the same that its compiler
would get, each operation becomes a line, and LLVM compiles them to one loop, which the backend
calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from surefoot.engines import plain
from surefoot.engines.compiled import Loop
from surefoot.rule import Array, Moments, StepScalars
from surefoot.slots import Assignment, Tracked

Elementwise = Callable[..., list[Array]]

EXPRESSIONS = {
    "abs": "abs({0})",
    "add": "{0} + {1}",
    "and": "{0} & {1}",
    "clamp": "{0} if {1} < {0} else ({2} if {1} > {2} else {1})",
    "copy": "{0}",
    "div": "{0} / {1}",
    "eq": "{0} == {1}",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "ge": "{0} >= {1}",
    "gt": "{0} > {1}",
    "le": "{0} <= {1}",
    "log1p": "log1p({0})",
    "lt": "{0} < {1}",
    "max": "{0} if ({0} > {1}) | ({0} != {0}) else {1}",
    "min": "{0} if ({0} < {1}) | ({0} != {0}) else {1}",
    "mul": "{0} * {1}",
    "ne": "{0} != {1}",
    "neg": "-{0}",
    "not": "not {0}",
    "or": "{0} | {1}",
    "select": "{1} if {0} else {2}",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "sub": "{0} - {1}",
}
"""What loops are made of; each for numbers of one dtype, or booleans."""


class UnknownOperationError(Exception):
    """A function holds what loops are not made of."""


class Row(NamedTuple):
    """Variables and tensors of one shape, the arguments of an elementwise function in this order.

    Attributes:
        changed: Variables that it gives new values.
        read: Variables that it only reads.
        given: Tensors that it reads.
    """

    changed: list[Any]
    read: list[Any]
    given: list[Array]

    @property
    def variables(self) -> list[Any]:
        """Those changed and those read."""
        return [*self.changed, *self.read]


class Running(Protocol):
    """What runs loops on a backend: a module."""

    def servable(self, rows: list[Row]) -> list[bool]:
        """Whether a loop may take each of these rows."""

    def run(
        self, function: Elementwise, rows: list[Row], *, condition: Array | None = None
    ) -> bool:
        """Give each row's variables their new values, where ``condition`` holds.

        Args:
            function: Takes the numbers of a row; returns those it changes anew. It may close
                over scalars.
            rows: Rows of one dtype, with as many of everything.
            condition: A scalar; None is true.

        Returns:
            False, with nothing done, if the function holds what loops are not made of.
        """


class Looping(Running, Protocol):
    """What traces functions for loops on a backend, too."""

    def array_namespace(self) -> Any:
        """The array namespace that its functions are traced with."""

    def cast(self, value: Array, dtype: Any) -> Array:
        """A value in another dtype."""

    def clipped(self, gradient: Array, bound: float | None) -> Array:
        """A gradient within ``bound`` on both sides of zero."""


def update(
    looping: Looping, scalars: StepScalars, pairs: list[tuple[Tracked, Array]], bound: float | None
) -> list[tuple[Tracked, Array]]:
    """Update what loops serve, gradients clipped by ``bound``; return the rest."""
    rows = [
        Row([v for v in (entry.variable, *entry.moments) if v is not None], [], [gradient])
        for entry, gradient in pairs
    ]
    keys = [
        (entry.decays, entry.vhat is None) if entry.master is None else None for entry, _ in pairs
    ]

    def own_rule(index: int) -> Elementwise:
        return _own_rule(looping, scalars, pairs[index][0], bound)

    served = _run(looping, rows, keys, own_rule)
    return [pair for pair, done in zip(pairs, served, strict=True) if not done]


def _own_rule(
    looping: Looping, scalars: StepScalars, tracked: Tracked, bound: float | None
) -> Elementwise:
    xp = looping.array_namespace()
    scalars = plain.own_scalars(xp, scalars, tracked)
    scalars = plain.cast_scalars(scalars, lambda x: looping.cast(x, tracked.m.dtype))
    return rule(xp, looping.cast, looping.clipped, scalars, bound)


def rule(
    xp: Any,
    cast: plain.Cast,
    clipped: Callable[[Array, float | None], Array],
    scalars: StepScalars,
    bound: float | None,
) -> Elementwise:
    """The rule for the numbers of one variable, whose gradient is clipped by ``bound``."""

    def step(parameter: Array, m: Array, v: Array, *others: Array) -> list[Array]:
        *vhat, gradient = others
        state = plain.VariableState(parameter, Moments(m, v, *(vhat or [None])), None)
        gradient = clipped(gradient, bound)
        new = plain.stepped(xp, cast, state, gradient, scalars)
        return [new.parameter, *(s for s in new.moments if s is not None)]

    return step


def assign_where(
    running: Running,
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
) -> list[Assignment]:
    """Assign what loops serve; return the rest."""
    rows, keys = [], []
    for targets, sources in assignments:
        others = {id(s): s for s in sources if s is not None}
        for target in targets:
            others.pop(id(target), None)
        rows.append(Row(targets, list(others.values()), []))
        place = {id(v): i for i, v in enumerate(rows[-1].variables)}
        keys.append((len(targets), *(place.get(id(source)) for source in sources)))

    def assignment_for(index: int) -> Elementwise:
        targets = rows[index].changed
        places = keys[index][1:]

        def assigned(*numbers: Array) -> list[Array]:
            new = value(*(None if place is None else numbers[place] for place in places))
            return [new] * len(targets)

        return assigned

    served = _run(running, rows, keys, assignment_for, condition)
    return [a for a, done in zip(assignments, served, strict=True) if not done]


def _run(
    running: Running,
    rows: list[Row],
    keys: Sequence[tuple[Any, ...] | None],
    function_for: Callable[[int], Elementwise],
    condition: Array | None = None,
) -> list[bool]:
    """Run one loop for all rows of a dtype and a key, none for those without; tell which ran."""
    alike: dict[Any, list[int]] = {}
    for index, servable in enumerate(running.servable(rows)):
        if servable and keys[index] is not None:
            dtype = rows[index].changed[0].dtype
            alike.setdefault((dtype, keys[index]), []).append(index)
    done = [False] * len(rows)
    for indices in alike.values():
        function = function_for(indices[0])
        if running.run(function, [rows[i] for i in indices], condition=condition):
            for index in indices:
                done[index] = True
    return done


class Lines:
    """The lines of a loop, and those that need to run only once, before it.

    Args:
        arrays: How many arrays the loop reads.
        dtype: That of their numbers, float32 or float64.
        scalars: The dtype of what it is given besides.
        conditional: Whether the first of these says if there is anything to do.
    """

    def __init__(self, arrays: int, dtype: str, scalars: str, *, conditional: bool = False) -> None:
        self._dtype = dtype
        self._scalar_dtype = scalars
        self._conditional = conditional
        self._before: list[str] = []
        self._within: list[str] = []
        self._scalars = int(conditional)
        self._count = 0
        self.numbers = [f"x{place}" for place in range(arrays)]
        self._varying = set(self.numbers)

    def scalar(self, dtype: str) -> str:
        """The next of the scalars that the loop is given; the condition comes before them.

        Args:
            dtype: What it is: bool, or a float that the scalars hold exactly.
        """
        given = self._given(self._scalars)
        self._scalars += 1
        return self._line(f"{given} != {_ZERO}" if dtype == "bool" else f"{dtype}({given})", [])

    def _given(self, place: int) -> str:
        return f"float64(load_{self._scalar_dtype}(scalars, {place}))"

    def number(self, value: float) -> str:
        """A constant in the dtype of the arrays."""
        return self.constant(value, self._dtype)

    def constant(self, value: Any, dtype: str) -> str:
        """A constant."""
        return str(bool(value)) if dtype == "bool" else f"{dtype}({float(value)!r})"

    def converted(self, operand: str, dtype: str) -> str:
        """A number in another dtype of floats."""
        return self._line(f"{dtype}({operand})", [operand])

    def operation(self, name: str, *operands: str) -> str:
        """The result of an operation.

        Raises:
            UnknownOperationError: If loops are not made of it.
        """
        if name not in EXPRESSIONS:
            raise UnknownOperationError(name)
        return self._line(EXPRESSIONS[name].format(*operands), list(operands))

    def _line(self, expression: str, operands: list[str]) -> str:
        name = f"t{self._count}"
        self._count += 1
        if self._varying.isdisjoint(operands):
            self._before.append(f"{name} = {expression}")
        else:
            self._within.append(f"{name} = {expression}")
            self._varying.add(name)
        return name

    def loop(self, results: list[str], kept: Iterable[int] = ()) -> Loop:
        """The loop, whose arrays are followed by new ones for those kept.

        Args:
            results: What the first arrays hold afterwards.
            kept: Which of these are not overwritten.
        """
        new = {place: f"a{len(self.numbers) + i}" for i, place in enumerate(sorted(kept))}
        read = [
            f"{number} = load_{self._dtype}(a{place}, i)"
            for place, number in enumerate(self.numbers)
        ]
        written = [
            f"store({new.get(place, f'a{place}')}, i, {result})"
            for place, result in enumerate(results)
            if place in new or result != self.numbers[place]
        ]
        return Loop(
            arrays=len(self.numbers) + len(new),
            idle=f"1 if {self._given(0)} == {_ZERO} else 0" if self._conditional else "0",
            before=tuple(self._before),
            within=(*read, *self._within, *written),
        )


_ZERO = "float64(0.0)"
