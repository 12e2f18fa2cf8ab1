"""The rule for many tensors as one JIT-compiled loop, in place.

The compilers of the backends make a loop for each result, and each loop reads its operands again:
40 bytes per parameter where the rule needs 28. `surefoot.engines.compiler` makes a single loop. A
module of each backend hands its tensors to that loop (`LoopRunner`).
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from surefoot.engines import plain
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.rule.rounding import Position
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Tracked
from surefoot.variables.variable import dtype_of


class Columns(list[list[Any]]):
    """Lists of equal length. The tensors at the same position of all lists are a row, of one shape.

    Attributes:
        known: What a runner has found out about variables, for the next step.
        keyed: What it has made of that and of keys.
    """

    known: Any = None
    keyed: Any = None

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

    def select(
        self, stored: Sequence[str], variables: Columns, tensors: Columns, keys: Sequence[int]
    ) -> Selection:
        """Decide which rows of variables and tensors a loop may read and write.

        It is called for all rows of a step before the first loop runs.

        Args:
            stored: The dtype of each column, as the loop expects it.
            variables: Columns of variables.
            tensors: Columns of tensors.
            keys: The key of each row.
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


WITHIN_FLOAT32 = {"float32", "bfloat16", "int16"}
"""What a loop in float32 reads and writes."""


class Group(NamedTuple):
    """Variables whose step is the same loop with the same scalars.

    Attributes:
        stored: The dtypes of a variable, its moments and a master.
        moments: Whether they have an m, a v and a vhat.
        decays: Whether weight decay moves them.
        indices: Their positions in the list that was grouped.
        keys: Of their random bits.
        variables: The variables, their moments and masters.
    """

    stored: tuple[str, ...]
    moments: tuple[bool, ...]
    decays: bool
    indices: list[int]
    keys: list[int]
    variables: Columns


def groups_of(tracked: list[Tracked]) -> list[Group]:
    """Group the variables that one call of a loop can update together."""
    groups: dict[Any, Group] = {}
    for index, entry in enumerate(tracked):
        row = [v for v in (entry.variable, *entry.moments, entry.master) if v is not None]
        stored = tuple(map(dtype_of, row))
        if entry.by_norm or not _can_be_stored(stored):
            continue
        key = stored, tuple(v is not None for v in entry.moments), entry.decays
        group = groups.setdefault(key, Group(*key, [], [], Columns([] for _ in row)))
        group.indices.append(index)
        group.keys.append(entry.key)
        for column, variable in zip(group.variables, row, strict=True):
            column.append(variable)
    return list(groups.values())


def _can_be_stored(stored: Sequence[str]) -> bool:
    """Whether loops read and write a variable and its slots in these dtypes."""
    halves = "int16" in stored
    if stored[0] == "bfloat16" and not halves:  # rounded otherwise
        return False
    return stored == ("float64",) * len(stored) or WITHIN_FLOAT32.issuperset(stored)


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
    done: set[int] = set()
    if scalars.tanh_weight is not None:  # no processor computes that in a few instructions
        return done
    found = []
    for group in groups:
        chosen = [gradients[i] for i in group.indices]
        stored = (*group.stored, dtype_of(chosen[0]))
        if _can_be_stored(stored):
            columns = Columns([chosen])
            selection = runner.select(stored, group.variables, columns, group.keys)
            found.append((group, stored, selection))
    if not may_run(runner, [selection for *_, selection in found]):
        return done
    for group, stored, selection in found:
        if any(selection.served):
            own = scalars.for_variable(decays=group.decays)
            named = {name: x for name, x in own._asdict().items() if x is not None}
            body = rule_loop(stored, group.moments, tuple(named), clips=bound is not None)
            body = body._replace(conditional=condition is not None)
            given = [x for x in (condition, *named.values(), bound) if x is not None]
            runner.run(body, selection, given)
            done.update(itertools.compress(group.indices, selection.served))
    return done


def may_run(runner: LoopRunner, selections: list[Selection]) -> bool:
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
def rule_loop(
    stored: tuple[str, ...], moments: tuple[bool, ...], names: tuple[str, ...], *, clips: bool
) -> Loop:
    """The rule as a loop over a parameter, its moments, perhaps a master, and its gradient.

    Args:
        stored: The dtypes of these.
        moments: Whether there is an m, a v and a vhat.
        names: Which of the `StepScalars` are given.
        clips: Whether a bound of the gradient follows them.
    """
    rounds, halves = "bfloat16" in stored[1 : 1 + sum(moments)], "int16" in stored
    return Loop(
        functools.partial(
            _rule, moments=moments, names=names, clips=clips, rounds=rounds, halves=halves
        ),
        dtype=dtype_of_loop(stored),
        scalars=len(names) + clips,
        stored=stored,
        outputs=len(stored) - 1,
        keyed=rounds,
    )


def dtype_of_loop(stored: Sequence[str]) -> str:
    """In what a loop computes that reads arrays of these dtypes."""
    return "float64" if stored[0] == "float64" else "float32"


def _rule(
    xp: Any,
    scalars: Sequence[Array],
    numbers: Sequence[Array],
    position: Position,
    *,
    moments: tuple[bool, ...],
    names: tuple[str, ...],
    clips: bool,
    rounds: bool,
    halves: bool,
) -> list[Array]:
    named = dict.fromkeys(StepScalars._fields) | dict(zip(names, scalars, strict=False))
    if moments[1]:  # else nobody asks
        named["adaptive"] = named["adaptive"] != 0.0
    parameter, *kept, gradient = numbers
    master = kept.pop() if halves else None
    values = iter(kept)
    if clips:
        gradient = xp.clip(gradient, -1.0 * scalars[-1], scalars[-1])
    new = plain.stepped(
        xp,
        in_dtype_of_loop,
        "",
        plain.VariableState(
            parameter, Moments(*(next(values) if there else None for there in moments)), master
        ),
        gradient,
        StepScalars(**named),
        position=position if rounds else None,
    )
    return [x for x in (new.parameter, *new.moments, new.master) if x is not None]


def in_dtype_of_loop(value: Array, dtype: Any) -> Array:
    """Within a loop all numbers have its dtype."""
    del dtype
    return value
