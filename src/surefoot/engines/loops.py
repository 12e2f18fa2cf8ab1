"""Elementwise functions of many tensors in one loop, in place, on a CPU.

A compiler of a backend makes a loop for each result, and each reads its operands anew: 40 bytes a
parameter where the rule needs 28. Here a backend traces the function, the same that its compiler
would get, each operation becomes a line, and Numba compiles them to one loop, which the backend
calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from surefoot.engines import plain
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
    "max": "{0} if {0} > {1} or {0} != {0} else {1}",
    "min": "{0} if {0} < {1} or {0} != {0} else {1}",
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


class Looping(Protocol):
    """What runs loops on a backend: a module."""

    def array_namespace(self) -> Any:
        """The array namespace that its functions are traced with."""

    def cast(self, value: Array, dtype: Any) -> Array:
        """A value in another dtype."""

    def clipped(self, gradient: Array, bound: float | None) -> Array:
        """A gradient within ``bound`` on both sides of zero."""

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

    def rule_for(index: int) -> Elementwise:
        return _rule(looping, scalars, pairs[index][0], bound)

    served = _run(looping, rows, keys, rule_for)
    return [pair for pair, done in zip(pairs, served, strict=True) if not done]


def _rule(
    looping: Looping, scalars: StepScalars, tracked: Tracked, bound: float | None
) -> Elementwise:
    xp = looping.array_namespace()
    scalars = plain.own_scalars(xp, scalars, tracked)
    scalars = plain.cast_scalars(scalars, lambda x: looping.cast(x, tracked.m.dtype))

    def step(parameter: Array, m: Array, v: Array, *others: Array) -> list[Array]:
        *vhat, gradient = others
        state = plain.VariableState(parameter, Moments(m, v, *(vhat or [None])), None)
        gradient = looping.clipped(gradient, bound)
        new = plain.stepped(xp, looping.cast, state, gradient, scalars)
        return [new.parameter, *(s for s in new.moments if s is not None)]

    return step


def assign_where(
    looping: Looping,
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

    served = _run(looping, rows, keys, assignment_for, condition)
    return [a for a, done in zip(assignments, served, strict=True) if not done]


def _run(
    looping: Looping,
    rows: list[Row],
    keys: Sequence[tuple[Any, ...] | None],
    function_for: Callable[[int], Elementwise],
    condition: Array | None = None,
) -> list[bool]:
    """Run one loop for all rows of a dtype and a key, none for those without; tell which ran."""
    alike: dict[Any, list[int]] = {}
    for index, servable in enumerate(looping.servable(rows)):
        if servable and keys[index] is not None:
            dtype = rows[index].changed[0].dtype
            alike.setdefault((dtype, keys[index]), []).append(index)
    done = [False] * len(rows)
    for indices in alike.values():
        function = function_for(indices[0])
        if looping.run(function, [rows[i] for i in indices], condition=condition):
            for index in indices:
                done[index] = True
    return done


class Lines:
    """The lines of a loop, and those that need to run only once, before it."""

    def __init__(self, arrays: int, *, conditional: bool) -> None:
        self._conditional = conditional
        self._before: list[str] = []
        self._within: list[str] = []
        self._scalars = int(conditional)
        self._count = 0
        self.numbers = [f"x{place}" for place in range(arrays)]
        self._varying = set(self.numbers)
        self._outer: dict[str, None] = {}

    def scalar(self, dtype: str) -> str:
        """The next of the scalars that the loop is given; the condition comes before them.

        Args:
            dtype: What it is: bool, or a float that the scalars hold exactly.
        """
        place = self._scalars
        self._scalars += 1
        given = f"scalars[{place}]"
        return self._line(f"{given} != 0" if dtype == "bool" else f"{dtype}({given})", [])

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
            self._need(operands)
        return name

    def _need(self, operands: list[str]) -> None:
        """Pass on what the loop takes from before it."""
        self._outer |= {x: None for x in operands if x not in self._varying and x.startswith("t")}

    def source(self, results: list[str], kept: Iterable[int] = ()) -> str:
        """The functions ``prepare`` of the scalars, and ``loop`` of what that returns and arrays.

        The first returns None where there is nothing to do. The arrays are followed by new ones
        for those kept.

        Args:
            results: What the first arrays hold afterwards.
            kept: Which of these are not overwritten.
        """
        arrays = [f"a{place}" for place in range(len(self.numbers))]
        new = {place: f"new{place}" for place in sorted(kept)}
        read = [f"{x} = {a}[i]" for x, a in zip(self.numbers, arrays, strict=True)]
        self._need(results)
        written = [
            f"{new.get(place, arrays[place])}[i] = {result}"
            for place, result in enumerate(results)
            if place in new or result != self.numbers[place]
        ]
        # With one more at the end, since a tuple of none has no type to be compiled for.
        outer = "".join(f"{name}, " for name in self._outer)
        return "\n".join(
            [
                "def prepare(scalars):",
                *(["    if scalars[0] == 0:", "        return None"] if self._conditional else []),
                *(f"    {line}" for line in self._before),
                f"    return ({outer}0)",
                f"def loop(prepared, {', '.join([*arrays, *new.values()])}):",
                f"    ({outer}_) = prepared",
                "    for i in range(a0.size):",
                *(f"        {line}" for line in [*read, *self._within, *written]),
                "",
            ]
        )
