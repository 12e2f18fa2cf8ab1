"""The one elementwise rule of the whole family.

Every optimizer here moves a parameter ``p`` with gradient ``g`` and moments
``m``, ``v`` in the same way and differs from the others only in a handful of
scalars a step::

    m <- m + (1 - beta_1) (g - m)
    v <- v + (1 - beta_2) (g g - v)        vhat <- max(vhat, v) with amsgrad
    p <- p - shrink p - (a g + b m) / d    d = s sqrt(v) + eps, or 1

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
    """

    one_minus_beta_1: Array
    one_minus_beta_2: Array
    gradient_weight: Array | None
    moment_weight: Array
    root_scale: Array
    epsilon: Array
    adaptive: Array
    shrink: Array


class Moments(NamedTuple):
    """The moments of one parameter: ``vhat`` is None without amsgrad."""

    m: Array
    v: Array
    vhat: Array | None


def interpolated(xp: Any, start: Array, end: Array, part: Array) -> Array:
    """A part, from 0 to 1, of the way from ``start`` to ``end``.

    Beyond the middle it is a weighted sum: there the rounding of a large
    ``start`` would be added to a small result, which with beta = 0 is ``end``.
    """

    def near() -> Array:
        return start + part * (end - start)

    def far() -> Array:
        return (1.0 - part) * start + part * end

    if isinstance(part, float):
        return near() if part <= 0.5 else far()
    return xp.where(part <= 0.5, near(), far())


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
        if scalars.adaptive is not True:
            denominator = xp.where(scalars.adaptive, denominator, xp.ones_like(denominator))
        step = step / denominator
    return parameter - scalars.shrink * parameter - step
