"""Conditional assignments as compiled loops: the way back of `surefoot.Lookahead`, say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from surefoot.engines import plain
from surefoot.engines.compiler.loop import Loop
from surefoot.engines.loops import (
    WITHIN_FLOAT32,
    Columns,
    LoopRunner,
    dtype_of_loop,
    in_dtype_of_loop,
    may_run,
)
from surefoot.rule import rounding
from surefoot.rule.rounding import Position
from surefoot.rule.update import Array
from surefoot.variables.tracked import Assignment, Assignments
from surefoot.variables.variable import dtype_of


def assign_where(
    runner: LoopRunner,
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
    scalars: Sequence[Array],
) -> list[Assignment]:
    """Make the assignments that loops can process, where ``condition`` holds; return the rest."""
    groups, rest = _grouped(assignments)
    for (stored, forms, places), chosen, columns in groups:
        selection = runner.select(stored, columns, Columns(), [a.key for a in chosen])
        if not may_run(runner, [selection]):
            rest += chosen
            continue
        body = assignment_loop(value, stored, forms, places, len(scalars))
        runner.run(body, selection, [condition, *scalars])
        rest += [a for a, s in zip(chosen, selection.served, strict=True) if not s]
    return rest


def _grouped(
    assignments: list[Assignment],
) -> tuple[list[tuple[Any, list[Assignment], Columns]], list[Assignment]]:
    """Assignments that one loop can make, with their variables; and those that none can."""
    if isinstance(assignments, Assignments) and assignments.groups is not None:
        groups, rest = assignments.groups
        return groups, list(rest)
    alike: dict[Any, list[Assignment]] = {}
    rest = []
    for assignment in assignments:
        row = _row(assignment)
        stored = tuple(map(dtype_of, row))
        if not _can_be_assigned(stored, assignment.forms):
            rest.append(assignment)
            continue
        place = {id(v): i for i, v in enumerate(row)}
        places = tuple(None if s is None else place[id(s)] for s in assignment.sources)
        key = stored, assignment.forms, places
        alike.setdefault(key, []).append(assignment)
    groups = [
        (key, chosen, Columns(list(column) for column in zip(*map(_row, chosen), strict=True)))
        for key, chosen in alike.items()
    ]
    if isinstance(assignments, Assignments):
        assignments.groups = groups, rest
    return groups, list(rest)


def _row(assignment: Assignment) -> list[Any]:
    """The variables of an assignment, each once, the targets first."""
    known = (*assignment.targets, *assignment.sources)
    return list({id(v): v for v in known if v is not None}.values())


def _can_be_assigned(stored: Sequence[str], forms: Sequence[str]) -> bool:
    """Whether loops read variables of these dtypes, and write the first ones in these forms."""
    if len(set(stored)) == 1 and stored[0] in ("float32", "float64"):
        return True
    to_nearest = (d for d, form in zip(stored, forms, strict=False) if form == rounding.NEAREST)
    return WITHIN_FLOAT32.issuperset(stored) and all(d == "float32" for d in to_nearest)


@functools.cache
def assignment_loop(
    value: Callable[..., Array],
    stored: tuple[str, ...],
    forms: tuple[str, ...],
    places: tuple[int | None, ...],
    scalars: int,
) -> Loop:
    """A conditional loop that makes an assignment.

    Args:
        value: See `assign_where`.
        stored: The dtypes of the variables of a row: the targets, and sources that are none.
        forms: Those in which the targets get the value.
        places: Which variables of a row the sources are.
        scalars: How many there are.
    """
    return Loop(
        functools.partial(_assigned, value=value, forms=forms, places=places),
        dtype=dtype_of_loop(stored),
        scalars=scalars,
        stored=stored,
        outputs=len(forms),
        conditional=True,
        keyed=rounding.AT_RANDOM in forms,
    )


def _assigned(
    xp: Any,
    scalars: Sequence[Array],
    numbers: Sequence[Array],
    position: Position,
    *,
    value: Callable[..., Array],
    forms: tuple[str, ...],
    places: tuple[int | None, ...],
) -> list[Array]:
    def exact(parameter: Array, master: Array | None) -> Array:
        return plain.exact_parameter(xp, in_dtype_of_loop, parameter, master, "")

    sources = [None if place is None else numbers[place] for place in places]
    new = value(xp, exact, scalars, *sources)
    random = position.at_step(*scalars[-2:]) if rounding.AT_RANDOM in forms else None
    return [rounding.in_form(xp, new, form, random) for form in forms]
