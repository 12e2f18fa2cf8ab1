"""What a step on JAX gives to loops, in place, and what it leaves to XLA."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp

from surefoot.engines import jax_loops, plain
from surefoot.rule import Array, Moments, StepScalars
from surefoot.slots import Assignment, Tracked

_parameters_kept: ContextVar[bool] = ContextVar("parameters_kept", default=False)


@contextlib.contextmanager
def parameters_kept() -> Iterator[None]:
    """Trace a step whose caller holds on to the old parameters: it gets new ones."""
    token = _parameters_kept.set(True)
    try:
        yield
    finally:
        _parameters_kept.reset(token)


def cast(value: Array, dtype: Any) -> Array:
    """A value in another dtype."""
    return jnp.asarray(value).astype(dtype)


def clipped(gradient: Array, bound: float | None) -> Array:
    """A gradient within ``bound`` on both sides of zero."""
    return gradient if bound is None else jnp.clip(gradient, -bound, bound)


def update(
    scalars: StepScalars, pairs: list[tuple[Tracked, Array]], bound: float | None
) -> list[tuple[Tracked, Array]]:
    """Update what loops serve; return the rest."""
    left: list[tuple[Tracked, Array]] = []
    served: dict[tuple[Any, ...], list[tuple[Tracked, list[Array]]]] = {}
    shares = jax_loops.shared_out([math.prod(t.variable.shape) for t, _ in pairs])
    for (entry, gradient), shared in zip(pairs, shares, strict=True):
        row = [*(v.value for v in _changing(entry)), gradient]
        if shared and entry.master is None and jax_loops.may_serve(row):
            key = (entry.decays, entry.vhat is None, gradient.dtype)
            served.setdefault(key, []).append((entry, row))
        else:
            left.append((entry, gradient))
    for alike in served.values():
        rows = [row for _, row in alike]
        loop = _loop_of_rule(plain.own_scalars(jnp, scalars, alike[0][0]), rows[0], bound)
        if loop is None:
            left += [(entry, row[-1]) for entry, row in alike]
            continue
        for (entry, _), values in zip(alike, loop(rows), strict=True):
            for variable, value in zip(_changing(entry), values, strict=True):
                variable.assign(value)
    return left


def _changing(tracked: Tracked) -> list[Any]:
    """What a step changes where there is no master value."""
    return [v for v in (tracked.variable, *tracked.moments) if v is not None]


def _loop_of_rule(
    scalars: StepScalars, arrays: list[Array], bound: float | None
) -> jax_loops.Loop | None:
    dtype = arrays[0].dtype
    scalars = plain.cast_scalars(scalars, lambda x: cast(x, dtype))

    def step(parameter: Array, m: Array, v: Array, *others: Array) -> list[Array]:
        *vhat, gradient = others
        moments = Moments(m, v, *(vhat or [None]))
        state = plain.VariableState(parameter, moments, None)
        new = plain.stepped(jnp, cast, state, clipped(gradient, bound), scalars)
        return [new.parameter, *(s for s in new.moments if s is not None)]

    kept = frozenset([0] if _parameters_kept.get() else [])
    return jax_loops.loop_of(step, arrays, len(arrays) - 1, kept=kept)


def assign_where(
    condition: Array, assignments: list[Assignment], value: Callable[..., Array]
) -> list[Assignment]:
    """Assign what loops serve; return the rest."""
    left: list[Assignment] = []
    served: dict[tuple[Any, ...], list[tuple[Assignment, list[Any]]]] = {}
    sizes = [math.prod(assignment.targets[0].shape) for assignment in assignments]
    for assignment, shared in zip(assignments, jax_loops.shared_out(sizes), strict=True):
        targets, sources = assignment
        variables = list({id(v): v for v in [*targets, *sources] if v is not None}.values())
        if shared and jax_loops.may_serve([v.value for v in variables]):
            place = {id(v): i for i, v in enumerate(variables)}
            key = (variables[0].dtype, len(targets), *(place.get(id(v)) for v in sources))
            served.setdefault(key, []).append((assignment, variables))
        else:
            left.append(assignment)
    for (_, targets, *places), alike in served.items():
        rows = [[v.value for v in variables] for _, variables in alike]
        loop = _loop_of_assignment(condition, targets, places, value, rows[0])
        if loop is None:
            left += [assignment for assignment, _ in alike]
            continue
        for (_, variables), values in zip(alike, loop(rows), strict=True):
            for variable, new in zip(variables, values, strict=False):
                variable.assign(new)
    return left


def _loop_of_assignment(
    condition: Array,
    targets: int,
    places: list[int | None],
    value: Callable[..., Array],
    arrays: list[Array],
) -> jax_loops.Loop | None:
    # Sources are given back as they were: who overwrites them later waits for this loop, and
    # XLA need not copy them. Parameters that are kept nobody overwrites.
    changed = targets if _parameters_kept.get() else len(arrays)

    def assigned(*numbers: Array) -> list[Array]:
        new = value(*(None if place is None else numbers[place] for place in places))
        return [*[new] * targets, *numbers[targets:changed]]

    return jax_loops.loop_of(assigned, arrays, changed, condition=condition)
