"""Scalars of a step: bias corrections, rectification, warmup, Nesterov momentum.

Plain functions of (step, hyperparameters), written once for every array
namespace ``xp`` that has ``log1p``, ``expm1``, ``exp``, ``sqrt``, ``where``,
``minimum`` and ``maximum``: NumPy on the host, ``keras.ops`` inside a compiled
function. They never form ``1 - beta`` from a rounded ``beta``, never take a
root of a negative number and never divide by zero, not even in a branch that
is then masked, because anomaly detectors look there too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from surefoot.rule.update import Array


class _Precision(NamedTuple):
    """Where a series is more exact than the closed form, by dtype."""

    largest_below_one: float
    largest_exponent: float
    series_complement: float
    series_exponent: float


# The series below are cut after a fixed number of terms; these limits keep the
# cut under the rounding error of the dtype.
_PRECISION = {
    "float32": _Precision(1.0 - 2.0**-24, 80.0, 0.125, 1.0),
    "float64": _Precision(1.0 - 2.0**-53, 700.0, 0.002, 0.05),
}


def _precision(value: Array) -> _Precision:
    return _PRECISION[keras.backend.standardize_dtype(value.dtype)]


def decay_exponent(one_minus_beta: Array, xp: Any) -> Array:
    """``-log(beta)``, exact for betas near one; finite also for ``beta = 0``."""
    limit = _precision(one_minus_beta).largest_below_one
    return -xp.log1p(-xp.minimum(one_minus_beta, limit))


def bias_correction(one_minus_beta: Array, step: Array, xp: Any) -> Array:
    """``1 - beta**step`` without cancellation (Kingma & Ba 2015, section 3)."""
    return -xp.expm1(-step * decay_exponent(one_minus_beta, xp))


class Rectification(NamedTuple):
    """Whether a step is rectified, and by which factor (1 where it is not)."""

    rectified: Array
    factor: Array


def rectification(
    one_minus_beta_2: Array, step: Array, sma_threshold: Array, xp: Any
) -> Rectification:
    """The variance rectification of RAdam (Liu et al. 2020, algorithm 2).

    ``rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t)`` is a difference of two
    numbers near ``2 / (1 - beta_2)``; for small ``t`` float32 loses up to four
    digits there, enough to move the first rectified step. With
    ``y = -t log(beta_2)`` it equals ``t + c - (2t/y) phi(y)``, where ``c`` and
    ``phi`` are small and have quickly converging series; those serve small
    ``y``, the closed form the rest.

    A step is rectified where ``rho_t >= sma_threshold``, as in TensorFlow
    Addons, and the factor is real.
    """
    q = one_minus_beta_2
    precision = _precision(q)
    exponent = decay_exponent(q, xp)
    y = xp.minimum(step * exponent, precision.largest_exponent)
    use_series = (
        xp.where(q <= precision.series_complement, y, precision.series_exponent)
        < precision.series_exponent
    )

    # rho_t - c is needed for c = 4, 2 and the threshold, each without
    # cancellation: keep rho_t as `base + rest` with `rest` small.
    small = xp.where(use_series, y, precision.series_exponent)
    squared = small * small
    # (2 / exponent) * phi(y) = step * 2 phi(y) / y, phi from Bernoulli numbers
    correction = (
        step * small * (1 / 6 - squared * (1 / 360 - squared * (1 / 15120 - squared / 604800)))
    )
    # 2/q - 1 - 2/exponent, from Gregory's coefficients
    offset = q * (1 / 6 + q * (1 / 12 + q * (19 / 360 + q * (3 / 80 + q * (863 / 30240)))))
    rho_inf = 2.0 / q - 1.0
    base = xp.where(use_series, step, rho_inf)
    rest = xp.where(use_series, offset - correction, -2.0 * step / xp.expm1(y))

    def excess(value: Array) -> Array:
        return (base - value) + rest

    def safe_denominator(value: Array) -> Array:
        return xp.where(value == 0.0, xp.ones_like(value), value)

    squared_factor = (
        (excess(4.0) / safe_denominator(rho_inf - 4.0))
        * (excess(2.0) / safe_denominator(rho_inf - 2.0))
        * (rho_inf / excess(0.0))
    )
    real = xp.where(rho_inf == 4.0, -1.0, xp.where(rho_inf == 2.0, -1.0, squared_factor))
    rectified = xp.where(excess(sma_threshold) >= 0.0, real, -xp.ones_like(real)) >= 0.0
    factor = xp.sqrt(xp.where(rectified, squared_factor, xp.ones_like(squared_factor)))
    return Rectification(rectified, factor)


def inverse_time_decay(learning_rate: Array, decay: Array, step: Array) -> Array:
    """The ``decay`` argument of 2020: ``lr / (1 + decay * updates_done)``."""
    return learning_rate / (1.0 + decay * (step - 1.0))


def warmup_and_decay(
    learning_rate: Array,
    step: Array,
    total_steps: Array,
    warmup_proportion: Array,
    min_lr: Array,
    xp: Any,
) -> Array:
    """RectifiedAdam's built-in schedule, off where ``total_steps`` is 0.

    Linear from 0 to ``learning_rate`` over the warmup, then linear to
    ``min_lr`` at ``total_steps``, where it stays (TensorFlow Addons 0.23).
    """
    warmup_steps = total_steps * warmup_proportion
    warming = learning_rate * (step / xp.where(warmup_steps > 0.0, warmup_steps, 1.0))
    # Weighted by the steps done and the steps left, each formed without
    # rounding: as `rate + (min_lr - rate) * done`, float32 would lose `min_lr`.
    span = xp.maximum(total_steps - warmup_steps, 1.0)
    done = xp.minimum(xp.maximum(step - warmup_steps, 0.0), span)
    end = warmup_steps + span
    left = xp.minimum(xp.maximum(end - step, 0.0), span)
    decaying = learning_rate * (left / span) + min_lr * (done / span)
    scheduled = xp.where(step <= warmup_steps, warming, decaying)
    return xp.where(total_steps > 0.0, scheduled, learning_rate)


class Momentum(NamedTuple):
    """Nadam's momentum of one step, and what it lacks to one."""

    mu: Array
    complement: Array


def nesterov_momentum(
    one_minus_beta_1: Array, schedule_decay: Array, step: Array, xp: Any
) -> Momentum:
    """``mu_t = beta_1 (1 - 0.96^(schedule_decay t) / 2)`` (Dozat 2016).

    With its complement, formed without cancellation, because a product of many
    ``mu`` near one would otherwise pile up their rounding.
    """
    half_decay = 0.5 * xp.exp(-0.040821994520255166 * schedule_decay * step)  # ln 0.96
    complement = one_minus_beta_1 + half_decay - one_minus_beta_1 * half_decay
    return Momentum((1.0 - one_minus_beta_1) * (1.0 - half_decay), complement)
