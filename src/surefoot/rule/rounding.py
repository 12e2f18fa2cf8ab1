"""Numbers in 16 bits: rounded to bfloat16 at random, or float32 in two halves.

A moment that is rounded to the nearest bfloat16 stops moving: with beta_2 = 0.999 a step changes it
by a thousandth at most, and bfloat16 has steps of 1/128 to 1/256. Rounded up or down at random, as
often as the distance asks for, its mean is what it would be in float32.

The random bits are a function of the seed, the variable, the number of the step and the place in
the array alone, by multiplications and exclusive ors of 32-bit integers. So they are the same on
every backend and device, for every number of threads, and after a resumed training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from surefoot.rule.update import Array, Moments

_HALF = 1 << 16

_MULTIPLIERS = 0x7FEB352D, 0x846CA68B
"""Those of the function with the least bias that a search has found for two multiplications and
three shifts, 16, 15 and 16 (Wellons, "Prospecting for Hash Functions", 2018)."""

_STRIDE, _MULTIPLIER = 0xA0C3E1F5, 0xF29B463F
"""Of numbers in the order of their places. Of a thousand pairs they gave the least correlation
between bits at up to 70,000 places from each other: 0.016."""


MOMENTS, PARAMETER, SLOW = range(3)
"""The lanes: arrays of one variable, each with random bits of its own."""


class Position(NamedTuple):
    """Where numbers are whose random bits are asked for.

    Attributes:
        key: That of their array: see `variable_key`. int32.
        places: Their places in the array, int32.
    """

    key: Array
    places: Array

    def at_step(self, low: Array, high: Array) -> RandomSource:
        """The same at a step whose number has these halves."""
        return RandomSource(self.key, self.places, low, high)


class RandomSource(NamedTuple):
    """What random bits depend on: a `Position`, and the number of the step.

    Attributes:
        key: See `Position`.
        places: See `Position`.
        step_low: The lower half of the step's number, a float: see `step_halves`.
        step_high: The upper half.
    """

    key: Array
    places: Array
    step_low: Array
    step_high: Array


def step_halves(step: Array) -> tuple[Array, Array]:
    """A whole number's low and high 16 bits, which float32 represents; the rest is left out."""
    low = step % _HALF
    return low, ((step - low) / _HALF) % _HALF


def variable_key(seed: int, index: int, *, lane: int = MOMENTS) -> int:
    """The key of an array of variable number ``index``; ``seed`` is below 2^32."""
    key = 0
    for part in (seed, index, lane):
        key = _mixed_on_host(key + part)
    return _as_int32(key)


def key_halves(key: int) -> tuple[int, int]:
    """The upper and the lower 16 bits of a key, which float32 represents."""
    return divmod(key % (1 << 32), _HALF)


def random_bits(xp: Any, source: RandomSource) -> Array:
    """32 random bits for each number of an array, as int32."""
    step = xp.integer(source.step_high) * _HALF + xp.integer(source.step_low)
    # The key of a step is mixed well, once for all numbers, so that the bits of one number do not
    # depend on each other from step to step. Those of neighbours need less.
    x = source.places * _as_int32(_STRIDE) + _mixed(xp, step + source.key)
    x = (x ^ xp.shifted_right(x, 15)) * _as_int32(_MULTIPLIER)
    return x ^ xp.shifted_right(x, 16)


def rounded_moments(xp: Any, moments: Moments, source: RandomSource) -> Moments:
    """Moments that bfloat16 represents exactly: m by the low half of the bits, v by the high one.

    The maximum of the second moments is rounded like these: where it is exceeded both are equal.
    """
    bits = random_bits(xp, source)
    low, high = bits & (_HALF - 1), xp.shifted_right(bits, 16)
    pairs = zip(moments, (low, high, high), strict=True)
    return Moments(*(None if x is None else _rounded(xp, x, random) for x, random in pairs))


def rounded(xp: Any, exact: Array, source: RandomSource) -> Array:
    """Float32 numbers that bfloat16 represents exactly, one of the two neighbours of each."""
    return _rounded(xp, exact, random_bits(xp, source) & (_HALF - 1))


def uniform(xp: Any, source: RandomSource) -> Array:
    """Random numbers in [0, 1), multiples of 2^-24."""
    return xp.number(xp.shifted_right(random_bits(xp, source), 8)) * 2.0**-24


class Halves(NamedTuple):
    """A float32 as two numbers of 16 bits, without loss.

    Attributes:
        upper: The nearest number that bfloat16 represents, in float32; between two of them the one
            away from zero.
        lower: What has to be added to the bits of ``upper``, from -2^15 to 2^15 - 1, as int32.
    """

    upper: Array
    lower: Array


def halves(xp: Any, exact: Array) -> Halves:
    """Split float32 numbers. Of infinite ones and NaN ``lower`` means nothing."""
    bits = xp.to_bits(exact)
    upper = (bits + _HALF // 2) & -_HALF
    return Halves(xp.where(xp.isfinite(exact), xp.from_bits(upper), exact), bits - upper)


def joined(xp: Any, upper: Array, lower: Array) -> Array:
    """The float32 of two halves.

    It rounds to ``upper``, also where that was assigned since, with another number's ``lower``;
    where both together are no number it is ``upper``.
    """
    exact = xp.from_bits(xp.to_bits(upper) + lower)
    return xp.where(xp.isfinite(exact) & xp.isfinite(upper), exact, upper)


NEAREST, AT_RANDOM, UPPER, LOWER = "nearest", "at random", "upper half", "lower half"


def in_form(xp: Any, exact: Array, form: str, source: RandomSource | None) -> Array:
    """A float32 value in the form in which a variable of 16 bits stores it.

    Args:
        xp: The namespace of the array.
        exact: The value.
        form: ``NEAREST``, as which the variable's dtype makes of it; ``AT_RANDOM``: see `rounded`;
            ``UPPER`` or ``LOWER``: see `Halves`.
        source: Of the random bits.
    """
    if form == AT_RANDOM:
        assert source is not None
        return rounded(xp, exact, source)
    if form == NEAREST:
        return exact
    both = halves(xp, exact)
    return both.upper if form == UPPER else both.lower


def _rounded(xp: Any, exact: Array, random: Array) -> Array:
    """Add up to one bfloat16 step, and cut off. In infinite numbers there is nothing to cut off."""
    cut = xp.from_bits((xp.to_bits(exact) + random) & -_HALF)
    return xp.where(xp.isnan(exact), exact, cut)


def _mixed(xp: Any, x: Array) -> Array:
    first, second = map(_as_int32, _MULTIPLIERS)
    x = (x ^ xp.shifted_right(x, 16)) * first
    x = (x ^ xp.shifted_right(x, 15)) * second
    return x ^ xp.shifted_right(x, 16)


def _mixed_on_host(x: int) -> int:
    for shift, factor in zip((16, 15), _MULTIPLIERS, strict=True):
        x &= 0xFFFFFFFF
        x = (x ^ x >> shift) * factor
    x &= 0xFFFFFFFF
    return x ^ x >> 16


def _as_int32(x: int) -> int:
    return x - (1 << 32) if x >= 1 << 31 else x
