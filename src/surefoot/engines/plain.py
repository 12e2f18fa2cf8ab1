"""The reference implementation of a step of one variable, shared by all engines.

These are pure functions of tensors: an engine reads its variables, calls them, and assigns the
results. The tests compare every fast path with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from surefoot.rule.update import Array, Moments, StepScalars, update_moments, updated_parameter
from surefoot.variables.variable import accumulator_dtype

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

    The master value counts only where the variable still equals its rounding:
    a value assigned from outside, such as loaded weights, wins.
    """
    widened = cast(parameter, dtype)
    if master is None:
        return widened
    unchanged = cast(cast(master, parameter.dtype), dtype) == widened
    return xp.where(unchanged, master, widened)


def stepped(
    xp: Any,
    cast: Cast,
    state: VariableState,
    gradient: Array,
    scalars: StepScalars,
    rounded: Cast | None = None,
) -> VariableState:
    """One dense update of one variable; ``scalars`` are in its moments' dtype.

    ``rounded`` casts the exact result to the variable's dtype; rounding to
    nearest by default.
    """
    dtype = accumulator_dtype(state.parameter)
    gradient = cast(gradient, dtype)
    before = exact_parameter(xp, cast, state.parameter, state.master, dtype)
    moments = update_moments(xp, before, gradient, state.moments, scalars)
    exact = updated_parameter(xp, before, gradient, moments, scalars)
    return VariableState(
        parameter=(rounded or cast)(exact, state.parameter.dtype),
        moments=moments,
        master=None if state.master is None else exact,
    )


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


def decayed_without_gradient(xp: Any, moments: Moments, scalars: StepScalars) -> Moments:
    """Moments of rows without a gradient, which decay as if it were zero."""
    like = moments.v if moments.m is None else moments.m
    zero = xp.zeros_like(like)
    return update_moments(xp, zero, zero, moments, scalars._replace(belief_epsilon=None))
