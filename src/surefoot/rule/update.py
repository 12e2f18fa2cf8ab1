"""The one elementwise rule of the whole family.

Every optimizer here moves a parameter ``p`` with gradient ``g`` and moments
``m``, ``v`` in the same way and differs from the others only in a handful of
scalars a step::

    m <- m + (1 - beta_1) (g - m)
    v <- v + (1 - beta_2) (g g - v)        vhat <- max(vhat, v) with amsgrad
    p <- p - shrink p - (a g + b m) / d    d = s sqrt(v) + eps, or 1

Some of them keep another moment, or none. Which of these it is shows in which
scalars and moments are None; what is None is not compiled::

    m <- beta_1 m + w g                          a sum: SGDW and NovoGrad
    v <- v + (1 - beta_2) ((g - m)^2 - v) + e    AdaBelief, with the new m
    v <- v + (1 - beta_2) sign(g g - v) g g      Yogi; or tanh instead of sign
    g <- g / d + decay p                         NovoGrad, whose v is of the norm of g
    p <- p - rate |p| / |u| u                    LAMB, where u is the step above

Without ``m`` the gradient stands for it, and without ``v`` ``d`` is 1.

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
        one_minus_beta_2: Weight of the squared gradient in the second moment;
            None where that is not an average.
        gradient_weight: ``a``, the weight of the raw gradient in the numerator;
            None, and not compiled, except for Nesterov momentum.
        moment_weight: ``b``, the weight of the first moment; it carries the
            learning rate and the bias correction.
        root_scale: ``s``, which corrects ``sqrt(v)`` for its start at zero.
        epsilon: Added to the denominator; None, like ``root_scale``, without one.
        adaptive: Whether the step is divided by ``d``; False while RAdam is not
            rectified. A Python bool where it is known without a device, so
            that no selection is computed.
        shrink: Decoupled weight decay of this step, learning rate included.
        gradient_share: ``w``, the weight of the gradient in a first moment that
            is a sum; as for all that follow, None for other optimizers.
        belief_epsilon: ``e``, added to a second moment of the distances of
            gradients from the first moment.
        sign_weight: ``1 - beta_2`` in a second moment that moves by the sign.
        tanh_weight: ``1 - beta_2`` in one that moves by the hyperbolic tangent.
        l1: Strength of the proximal step towards zero by a constant length.
        l2: Strength of the one by a share of the parameter.
        norm_decay: Weight decay within the first moment, of gradients divided
            by an average of their norm.
        rate: Learning rate of a step that is made as long as its parameter.
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
    gradient_share: Array | None = None
    belief_epsilon: Array | None = None
    sign_weight: Array | None = None
    tanh_weight: Array | None = None
    l1: Array | None = None
    l2: Array | None = None
    norm_decay: Array | None = None
    rate: Array | None = None
    step_low: Array | None = None
    step_high: Array | None = None

    def for_variable(self, *, decays: bool, by_norm: bool = False) -> StepScalars:
        """The scalars of one variable.

        Args:
            decays: Whether it is not excluded from weight decay.
            by_norm: Whether its step depends on the norms of whole tensors.
        """
        own = self
        if not decays:
            own = own._replace(shrink=0.0, norm_decay=None if own.norm_decay is None else 0.0)
        if own.rate is not None and not by_norm:
            moment_weight, shrink = own.rate * own.moment_weight, own.rate * own.shrink
            own = own._replace(moment_weight=moment_weight, shrink=shrink, rate=None)
        return own


ABSENT = frozenset(StepScalars._field_defaults)
"""The scalars that RectifiedAdam, Nadam and AdamW do without."""


class Moments(NamedTuple):
    """The moments of one parameter.

    Attributes:
        m: The first moment, or None.
        v: The second moment, or None.
        vhat: Its largest value so far; None without amsgrad.
    """

    m: Array | None
    v: Array | None
    vhat: Array | None


def interpolated(xp: Any, start: Array, end: Array, part: Array) -> Array:
    """A part, from 0 to 1, of the way from ``start`` to ``end``.

    It is ``start + part (end - start)``, which rounds only ``part``. Beyond the
    middle it is the weighted sum ``(1 - part) start + part end``: there the
    rounding of a large ``start`` would be added to a small result, which with
    beta = 0 is ``end``. Where the difference is no number, since ``start`` is
    infinite, it is the weighted sum, too, which stays infinite, as in the
    originals.
    """
    if isinstance(part, float):
        weight: Array = 1.0 if part <= 0.5 else 1.0 - part
        subtracted = start if part <= 0.5 else xp.zeros_like(start)
    else:
        near, one = part <= 0.5, xp.ones_like(part)
        weight = xp.where(near, one, one - part)
        subtracted = xp.where(near, start, xp.zeros_like(start))
    kept = weight * start
    moved = kept + part * (end - subtracted)
    return xp.where(xp.isnan(moved), kept + part * end, moved)


def update_moments(
    xp: Any, parameter: Array, gradient: Array, moments: Moments, scalars: StepScalars
) -> Moments:
    """Let the moments see one gradient.

    Only ``q = 1 - beta`` is rounded: in float32 a beta of 0.99999 is off by
    0.1 % of ``q``.
    """
    m, v, vhat = moments
    if scalars.norm_decay is not None:
        v, vhat = _second_moments(xp, xp.sum(gradient * gradient), moments, scalars)
        size = _root(xp, v if vhat is None else vhat, scalars)
        gradient = gradient / _divisor(xp, size, size != 0.0) + scalars.norm_decay * parameter
        return Moments(_first_moment(xp, gradient, m, scalars), v, vhat)
    m = _first_moment(xp, gradient, m, scalars)
    if v is not None:
        seen = gradient if scalars.belief_epsilon is None else gradient - m
        v, vhat = _second_moments(xp, seen * seen, moments, scalars)
    return Moments(m, v, vhat)


def _first_moment(xp: Any, gradient: Array, m: Array | None, scalars: StepScalars) -> Array | None:
    if m is None:
        return None
    if scalars.gradient_share is not None:
        return (1.0 - scalars.one_minus_beta_1) * m + scalars.gradient_share * gradient
    return interpolated(xp, m, gradient, scalars.one_minus_beta_1)


def _second_moments(
    xp: Any, square: Array, moments: Moments, scalars: StepScalars
) -> tuple[Array, Array | None]:
    v, vhat = moments.v, moments.vhat
    if scalars.sign_weight is not None:
        # Equal ones, which may be infinite, are not subtracted.
        lower = xp.where(square == v, xp.zeros_like(square), -square)
        v = v + scalars.sign_weight * xp.where(square > v, square, lower)
    elif scalars.tanh_weight is not None:
        v = v + scalars.tanh_weight * xp.tanh(10.0 * (square - v)) * square
    else:
        v = interpolated(xp, v, square, scalars.one_minus_beta_2)
    if scalars.belief_epsilon is not None:
        v = v + scalars.belief_epsilon
    return v, None if vhat is None else xp.maximum(vhat, v)


def _root(xp: Any, second: Array, scalars: StepScalars) -> Array:
    return scalars.root_scale * xp.sqrt(second) + scalars.epsilon


def _divisor(xp: Any, denominator: Array, divides: Array) -> Array:
    return xp.where(divides, denominator, xp.ones_like(denominator))


def updated_parameter(
    xp: Any, parameter: Array, gradient: Array, moments: Moments, scalars: StepScalars
) -> Array:
    """Return the parameter after the step, given moments that saw its gradient."""
    m, v, vhat = moments
    step = scalars.moment_weight * (gradient if m is None else m)
    if scalars.gradient_weight is not None:
        step = step + scalars.gradient_weight * gradient
    divisor = None
    # `adaptive` is a Python bool where the host knows it, else a tensor.
    if v is not None and scalars.adaptive is not False:
        denominator = _root(xp, v if vhat is None else vhat, scalars)
        divides = denominator != 0.0
        if scalars.adaptive is not True:
            divides = divides & scalars.adaptive
        # Where epsilon is 0 and the square of a tiny gradient underflows, the numerator is tiny,
        # too: the parameter stays, instead of 0 / 0 making NaN of it.
        divisor = _divisor(xp, denominator, divides)
        step = step / divisor
    if scalars.rate is not None:
        step = scalars.shrink * parameter + step
        return parameter - scalars.rate * _ratio_of_norms(xp, parameter, step) * step
    moved = parameter - scalars.shrink * parameter - step
    if scalars.l1 is None:
        return moved
    return _proximal(xp, moved, scalars.moment_weight / divisor, scalars)


def _ratio_of_norms(xp: Any, parameter: Array, step: Array) -> Array:
    """``|p| / |u|``; 1 where one of them is 0."""
    length, step_length = (xp.sqrt(xp.sum(x * x)) for x in (parameter, step))
    one = xp.ones_like(length)
    known = (length > 0.0) & (step_length > 0.0)
    return xp.where(known, length / xp.where(known, step_length, one), one)


def _proximal(xp: Any, moved: Array, rate: Array, scalars: StepScalars) -> Array:
    """What lasso and ridge penalties leave of a parameter (Parikh & Boyd 2014, chapter 6.5)."""
    threshold = scalars.l1 * rate
    nearer = xp.where(moved > 0.0, moved - threshold, moved + threshold)
    kept = xp.where(xp.abs(moved) <= threshold, xp.zeros_like(moved), nearer)
    return kept / (1.0 + scalars.l2 * rate)
