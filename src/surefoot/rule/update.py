"""The one elementwise rule of the whole family.

Every optimizer here moves a parameter ``p`` with gradient ``g`` and moments
``m``, ``v`` in the same way and differs from the others only in a handful of
scalars a step::

    m <- m + (1 - beta_1) (g - m)
    v <- v + (1 - beta_2) (g g - v)        vhat <- max(vhat, v) with amsgrad
    p <- p - shrink p - (a g + b m) / d    d = s sqrt(v) + eps, or 1

An element whose squared gradient overflows has an infinite ``v`` from then on
and so stays where it is, as in the originals; where ``d`` would be 0 it is 1.

The engines apply these functions to whole models. Nothing else in the library
restates them; a fused kernel that an engine calls instead is held against them
step by step in the tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any
"""A tensor or scalar of whichever backend is in use (or of NumPy)."""


class StepScalars(NamedTuple):
    """Everything one update needs besides tensors; computed once a step.

    Attributes:
        one_minus_beta_1: Weight of the new gradient in the first moment.
        one_minus_beta_2: Weight of the squared gradient in the second moment.
        gradient_weight: ``a``, the weight of the raw gradient in the numerator;
            None, and not compiled, except for Nesterov momentum.
        moment_weight: ``b``, the weight of the first moment; it carries the
            learning rate and the bias correction.
        root_scale: ``s``, which corrects ``sqrt(v)`` for its start at zero.
        epsilon: Added to the denominator.
        adaptive: Whether the step is divided by ``d``; False while RAdam is not
            rectified. A Python bool where it is known without a device, so
            that no selection is computed.
        shrink: Decoupled weight decay of this step, learning rate included.
        step_low: The number of the step, its low and
        step_high: its high 16 bits, where something is rounded at random; else None.
    """

    one_minus_beta_1: Array
    one_minus_beta_2: Array
    gradient_weight: Array | None
    moment_weight: Array
    root_scale: Array
    epsilon: Array
    adaptive: Array
    shrink: Array
    step_low: Array | None = None
    step_high: Array | None = None

    def for_variable(self, *, decays: bool) -> StepScalars:
        """The scalars of one variable, which may be excluded from weight decay."""
        return self if decays else self._replace(shrink=0.0)


class Moments(NamedTuple):
    """The moments of one parameter: ``vhat`` is None without amsgrad."""

    m: Array
    v: Array
    vhat: Array | None


def interpolated(xp: Any, start: Array, end: Array, part: Array) -> Array:
    """A part, from 0 to 1, of the way from ``start`` to ``end``.

    It is ``start + part (end - start)``, which rounds only ``part``. Beyond the
    middle it is the weighted sum ``(1 - part) start + part end``: there the
    rounding of a large ``start`` would be added to a small result, which with
    beta = 0 is ``end``. An infinite ``start`` is left out of the difference, so
    that it stays infinite, as in the weighted sum of the originals, and does
    not become NaN.
    """
    finite = xp.isfinite(start)
    if isinstance(part, float):
        if part > 0.5:
            return (1.0 - part) * start + part * end
        weight: Array = 1.0
    else:
        near, one = part <= 0.5, xp.ones_like(part)
        weight = xp.where(near, one, one - part)
        finite = finite & near
    subtracted = xp.where(finite, start, xp.zeros_like(start))
    return weight * start + part * (end - subtracted)


def update_moments(xp: Any, gradient: Array, moments: Moments, scalars: StepScalars) -> Moments:
    """Let the moments see one gradient.

    Only ``q = 1 - beta`` is rounded: in float32 a beta of 0.99999 is off by
    0.1 % of ``q``.
    """
    m, v, vhat = moments
    m = interpolated(xp, m, gradient, scalars.one_minus_beta_1)
    v = interpolated(xp, v, gradient * gradient, scalars.one_minus_beta_2)
    if vhat is not None:
        vhat = xp.maximum(vhat, v)
    return Moments(m, v, vhat)


def updated_parameter(
    xp: Any, parameter: Array, gradient: Array, moments: Moments, scalars: StepScalars
) -> Array:
    """Return the parameter after the step, given moments that saw its gradient."""
    m, v, vhat = moments
    step = scalars.moment_weight * m
    if scalars.gradient_weight is not None:
        step = step + scalars.gradient_weight * gradient
    # `adaptive` is a Python bool where the host knows it, else a tensor.
    if scalars.adaptive is not False:
        denominator = scalars.root_scale * xp.sqrt(v if vhat is None else vhat) + scalars.epsilon
        divides = denominator != 0.0
        if scalars.adaptive is not True:
            divides = divides & scalars.adaptive
        # Where epsilon is 0 and the square of a tiny gradient underflows, the numerator is tiny,
        # too: the parameter stays, instead of 0 / 0 making NaN of it.
        step = step / xp.where(divides, denominator, xp.ones_like(denominator))
    return parameter - scalars.shrink * parameter - step
