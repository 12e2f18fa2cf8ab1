"""Elementwise functions of many tensors as one JIT-compiled loop, in place, on a CPU.

The compilers of the backends make a loop for each result, and each loop reads its operands again:
40 bytes per parameter where the rule needs 28. `surefoot.engines.compiler` makes a single loop. A
module of each backend hands its tensors to that loop (`LoopRunner`).
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from surefoot.engines import plain
from surefoot.engines.compiler.loop import Elementwise, Loop, Obstacle
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Assignments, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision


class Columns(list[list[Any]]):
    """Lists of equal length. The tensors at the same position of all lists are a row, of one shape.

    Attributes:
        known: What a runner has found out about variables, for the next step.
    """

    known: Any = None

    def __reduce__(self) -> tuple[type[Columns], tuple[list[list[Any]]]]:
        # Without what is known, which is about other memory than that of a copy.
        return Columns, (list(self),)


_LOGGER = logging.getLogger("surefoot")

_told = threading.Lock()
"""Acquired once in a process, by the step that logs why there are no loops."""


class Selection(NamedTuple):
    """The rows that a loop can process.

    Attributes:
        served: For each row, whether a loop can process it.
        arrays: These rows, in the form that the backend's `LoopRunner.run` takes.
    """

    served: list[bool]
    arrays: Any


class LoopRunner(Protocol):
    """What a module that runs loops on a backend provides."""

    def obstacle(self, selection: Selection) -> Obstacle | None:
        """Why no loop can run on these rows, or None. Called at each step."""

    def select(self, dtype: str, variables: Columns, tensors: Columns) -> Selection:
        """Decide which rows of variables and tensors a loop may read and write.

        It is called for all rows of a step before the first loop runs.
        """

    def run(self, body: Loop, selection: Selection, scalars: Sequence[Array]) -> None:
        """Run a loop, which gives new values to the first variables of each row.

        Args:
            body: The loop. If it is conditional, the first scalar is the condition.
            selection: The rows.
            scalars: The scalars that the loop reads, of any dtype.
        """

    def step_path(self) -> StepPath:
        """How a step on variables that are made now would be made here, and why so."""


class StepPath(NamedTuple):
    """How a step is made, and why so."""

    path: str
    reason: str


class Group(NamedTuple):
    """Variables whose step is the same loop with the same scalars.

    Attributes:
        dtype: That of their accumulators.
        decays: Whether weight decay applies to them.
        moments: Whether they have an m, a v and a vhat.
        indices: Their positions among those of the step.
        variables: They and their moments.
    """

    dtype: str
    decays: bool
    moments: tuple[bool, ...]
    indices: list[int]
    variables: Columns


def groups_of(tracked: list[Tracked]) -> list[Group]:
    """Group the variables that one call of a loop can update together."""
    groups: dict[Any, Group] = {}
    for index, entry in enumerate(tracked):
        if is_low_precision(entry.variable) or entry.by_norm:
            continue
        row = [v for v in (entry.variable, *entry.moments) if v is not None]
        moments = tuple(v is not None for v in entry.moments)
        key = accumulator_dtype(entry.variable), entry.decays, moments
        group = groups.setdefault(key, Group(*key, [], Columns([] for _ in row)))
        group.indices.append(index)
        for column, variable in zip(group.variables, row, strict=True):
            column.append(variable)
    return list(groups.values())


def update(
    runner: LoopRunner,
    groups: list[Group],
    scalars: StepScalars,
    gradients: list[Array],
    bound: float | None,
    condition: Array | None = None,
) -> set[int]:
    """Update what loops can process; return the indices.

    Args:
        runner: The backend's.
        groups: The variables.
        scalars: Those of the step.
        gradients: For each variable.
        bound: To which gradients are clipped, or None.
        condition: If it is 0, there is no step.
    """
    if scalars.tanh_weight is not None:  # no processor computes that in a few instructions
        return set()
    selections = [
        runner.select(g.dtype, g.variables, Columns([[gradients[i] for i in g.indices]]))
        for g in groups
    ]
    done: set[int] = set()
    if not _may_run(runner, selections):
        return done
    for group, selection in zip(groups, selections, strict=True):
        if any(selection.served):
            own = scalars.for_variable(decays=group.decays)
            names = tuple(name for name, x in own._asdict().items() if x is not None)
            body = rule_loop(group.dtype, group.moments, names, bound is not None)
            body = body._replace(conditional=condition is not None)
            given = [x for x in (condition, *own, bound) if x is not None]
            runner.run(body, selection, given)
            done.update(i for i, s in zip(group.indices, selection.served, strict=True) if s)
    return done


def _may_run(runner: LoopRunner, selections: list[Selection]) -> bool:
    """Whether there are rows for loops and no obstacle; an obstacle is logged once."""
    if not any(any(selection.served) for selection in selections):
        return False
    found = (runner.obstacle(selection) for selection in selections if any(selection.served))
    obstacle = next((one for one in found if one is not None), None)
    if obstacle is None:
        return True
    if _told.acquire(blocking=False):
        if obstacle.is_only_missing:
            _LOGGER.warning("Steps are left to the backend and take longer: %s", obstacle.reason)
        else:
            _LOGGER.info("Steps are left to the backend: %s", obstacle.reason)
    return False


def step_path(
    obstacle: Obstacle | None,
    others: str,
    *,
    served: bool = True,
    device: str = "",
    elsewhere: str = "",
) -> StepPath:
    """How a step is made in a process where nothing else has been decided.

    Args:
        obstacle: Why no loop can run, or None.
        others: How the backend makes a step without loops.
        served: Whether a loop may read and write a variable that is created now.
        device: The device of that variable.
        elsewhere: How the backend makes a step on that device.
    """
    if not served:
        return StepPath(elsewhere, f"variables are on {device}")
    if obstacle is not None:
        return StepPath(others, obstacle.reason)
    return StepPath("JIT-compiled loop over all tensors, in place", "nothing is in its way")


@functools.cache
def rule_loop(dtype: str, moments: tuple[bool, ...], names: tuple[str, ...], clips: bool) -> Loop:
    """The rule as a loop over a parameter, its moments and its gradient.

    Args:
        dtype: float32 or float64.
        moments: Whether there is an m, a v and a vhat.
        names: Which of the `StepScalars` there are.
        clips: Whether a bound of the gradient follows them.
    """
    state = 1 + sum(moments)
    return Loop(
        function=functools.partial(_rule, moments=moments, names=names, clips=clips),
        dtype=dtype,
        scalars=len(names) + clips,
        inputs=state + 1,
        outputs=state,
    )


def _rule(
    xp: Any,
    scalars: Sequence[Array],
    numbers: Sequence[Array],
    *,
    moments: tuple[bool, ...],
    names: tuple[str, ...],
    clips: bool,
) -> list[Array]:
    named = dict.fromkeys(StepScalars._fields) | dict(zip(names, scalars, strict=False))
    named["adaptive"] = named["adaptive"] != 0.0
    parameter, *kept, gradient = numbers
    if clips:
        gradient = xp.clip(gradient, -1.0 * scalars[-1], scalars[-1])
    values = iter(kept)
    new = plain.stepped(
        xp,
        lambda value, dtype: value,
        plain.VariableState(
            parameter, Moments(*(next(values) if there else None for there in moments)), None
        ),
        gradient,
        StepScalars(**named),
    )
    return [new.parameter, *(moment for moment in new.moments if moment is not None)]


def assign_where(
    runner: LoopRunner,
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
    scalars: Sequence[Array],
) -> list[Assignment]:
    """Make the assignments that loops can process, where ``condition`` holds; return the rest."""
    groups, rest = _grouped(assignments)
    for (dtype, outputs, inputs, places), chosen, columns in groups:
        selection = runner.select(dtype, columns, Columns())
        if not _may_run(runner, [selection]):
            rest += chosen
            continue
        body = Loop(
            _assigned(value, outputs, places),
            dtype,
            len(scalars),
            inputs,
            outputs,
            conditional=True,
        )
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
        targets, sources = assignment
        known = [v for v in (*targets, *sources) if v is not None]
        if any(map(is_low_precision, known)):
            rest.append(assignment)
            continue
        row = _row(assignment)
        place = {id(v): i for i, v in enumerate(row)}
        places = tuple(None if s is None else place[id(s)] for s in sources)
        key = accumulator_dtype(targets[0]), len(targets), len(row), places
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
    targets, sources = assignment
    return list({id(v): v for v in (*targets, *sources) if v is not None}.values())


@functools.cache
def _assigned(
    value: Callable[..., Array], outputs: int, places: tuple[int | None, ...]
) -> Elementwise:
    def assigned(xp: Any, scalars: Sequence[Array], numbers: Sequence[Array]) -> list[Array]:
        sources = [None if place is None else numbers[place] for place in places]
        return [value(xp, _value_itself, scalars, *sources)] * outputs

    return assigned


def _value_itself(value: Array, master: Array | None) -> Array:
    """The exact value of a variable that needs no master."""
    del master
    return value
