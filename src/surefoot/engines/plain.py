"""The reference implementation of a step of one variable, shared by all engines.

These are pure functions of tensors: an engine reads its variables, calls them, and assigns the
results. The tests compare every fast path with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from surefoot.rule import rounding
from surefoot.rule.rounding import Position
from surefoot.rule.update import Array, Moments, StepScalars, update_moments, updated_parameter
from surefoot.variables.variable import dtype_of

Cast = Callable[[Array, Any], Array]


class BitCasts(NamedTuple):
    """Reinterpretation of 16-bit floats as integers, and back."""

    to_int16: Callable[[Array], Array]
    to_float: Callable[[Array, Any], Array]


class VariableState(NamedTuple):
    """The values behind a `surefoot.variables.tracked.Tracked`."""

    parameter: Array
    moments: Moments
    master: Array | None


def is_stateless() -> bool:
    """Whether values stand in for those of variables, as in `stateless_apply`.

    They are the caller's: nothing may change them in place.
    """
    with keras.StatelessScope(initialize_variables=False) as probe:
        return probe.original_scope is not None


def exact_parameter(
    xp: Any, cast: Cast, parameter: Array, master: Array | None, dtype: Any
) -> Array:
    """The parameter in the dtype of its moments.

    A float32 master counts only where the variable still equals its rounding: a value assigned
    from outside, such as loaded weights, wins. Lower halves make of it a value that rounds to it.
    """
    widened = cast(parameter, dtype)
    if master is None:
        return widened
    if is_lower_half(master):
        return rounding.joined(xp, widened, cast(master, "int32"))
    unchanged = cast(cast(master, parameter.dtype), dtype) == widened
    return xp.where(unchanged, master, widened)


def is_lower_half(master: Any) -> bool:
    """Whether a master has what a bfloat16 variable lacks, and not the whole float32."""
    return dtype_of(master).startswith("int")


def stepped(
    xp: Any,
    cast: Cast,
    dtype: Any,
    state: VariableState,
    gradient: Array,
    scalars: StepScalars,
    *,
    rounded: Cast | None = None,
    position: Position | None = None,
) -> VariableState:
    """One dense update of one variable.

    Args:
        xp: The namespace of its arrays.
        cast: Casts an array to a dtype.
        dtype: That of sums over many steps, in which all is computed.
        state: The variable's.
        gradient: Its gradient.
        scalars: Those of the step, in ``dtype``.
        rounded: Casts the exact result to the variable's dtype; by default to the nearest.
        position: Where the numbers are, if moments are rounded to bfloat16.
    """
    gradient = cast(gradient, dtype)
    before = exact_parameter(xp, cast, state.parameter, state.master, dtype)
    moments = _in_dtype(cast, state.moments, dtype)
    moments = update_moments(xp, before, gradient, moments, scalars)
    exact = updated_parameter(xp, before, gradient, moments, scalars)
    master = None if state.master is None else exact
    if state.master is not None and is_lower_half(state.master):
        exact, lower = rounding.halves(xp, exact)
        master = cast(lower, state.master.dtype)
    return VariableState(
        parameter=(rounded or cast)(exact, state.parameter.dtype),
        moments=_as_stored(xp, cast, moments, scalars, position),
        master=master,
    )


def _in_dtype(cast: Cast, moments: Moments, dtype: Any) -> Moments:
    return Moments(*(None if x is None else cast(x, dtype) for x in moments))


def _as_stored(
    xp: Any, cast: Cast, moments: Moments, scalars: StepScalars, position: Position | None
) -> Moments:
    """The moments as they are, or rounded at random to bfloat16."""
    if position is None:
        return moments
    source = position.at_step(scalars.step_low, scalars.step_high)
    rounded = rounding.rounded_moments(xp, _in_dtype(cast, moments, "float32"), source)
    rounded = _in_dtype(cast, rounded, "bfloat16")
    # Second moments of a norm are one number for each tensor, and stay exact.
    of_norm = scalars.norm_decay is not None
    return rounded._replace(v=moments.v, vhat=moments.vhat) if of_norm else rounded


def stochastically_rounded(
    xp: Any,
    cast: Cast,
    bits: BitCasts,
    exact: Array,
    dtype: Any,
    uniform: Array,
) -> Array:
    """Round to one of the two neighbours in a 16-bit dtype, right on average.

    Adjacent floats of one sign are adjacent integers, so the neighbour on the
    other side of ``exact`` is one bit pattern away from the nearest. Infinite
    and NaN values stay what they are.
    """
    nearest = cast(exact, dtype)
    widened = cast(nearest, exact.dtype)
    error = exact - widened
    pattern = bits.to_int16(nearest)
    one = xp.ones_like(pattern)
    outward = (error > 0) == (widened > 0)
    smallest = xp.where(error > 0, one, one - 32767 - 1)
    neighbour = bits.to_float(
        xp.where(widened == 0, smallest, pattern + xp.where(outward, one, -one)), dtype
    )
    gap = xp.abs(cast(neighbour, exact.dtype) - widened)
    return xp.where(uniform * gap < xp.abs(error), neighbour, nearest)


def decayed_without_gradient(
    xp: Any,
    cast: Cast,
    dtype: Any,
    moments: Moments,
    scalars: StepScalars,
    position: Position | None,
) -> Moments:
    """Moments of rows without a gradient, which decay as if it were zero; see `stepped`."""
    exact = _in_dtype(cast, moments, dtype)
    zero = xp.zeros_like(exact.v if exact.m is None else exact.m)
    new = update_moments(xp, zero, zero, exact, scalars._replace(belief_epsilon=None))
    return _as_stored(xp, cast, new, scalars, position)
