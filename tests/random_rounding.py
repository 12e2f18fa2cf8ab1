"""Random rounding to bfloat16, written anew: bits by 64-bit integers, rounding by floats."""

from __future__ import annotations

import numpy as np

MASK = 0xFFFFFFFF


def mixed(x: np.ndarray | int) -> np.ndarray:
    """The hash function "lowbias32" (Wellons 2018) of numbers of 32 bits."""
    x = np.asarray(x, np.uint64) & np.uint64(MASK)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(MASK)
    return x ^ (x >> np.uint64(16))


def bits(seed: int, index: int, lane: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """The 32 random bits of each number of an array; ``step`` counts the updates done."""
    key = np.uint64(0)
    for part in (seed, index, lane):
        key = mixed(int(key) + part)
    return bits_of_step(mixed(int(key) + (step & MASK)), np.prod(shape, dtype=int)).reshape(shape)


def bits_of_step(key: np.ndarray, count: int) -> np.ndarray:
    """The random bits of the first places, by the key of an array at a step."""
    x = np.arange(count, dtype=np.uint64) * np.uint64(0xA0C3E1F5) + key
    x = x & np.uint64(MASK)
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0xF29B463F)) & np.uint64(MASK)
    return x ^ (x >> np.uint64(16))


def rounded(exact: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Up or down to a neighbour in bfloat16: away from zero by a chance of 2^-16 for each part.

    Args:
        exact: Float32 numbers.
        random: Whole numbers in [0, 2^16).
    """
    exact = np.asarray(exact, np.float32)
    toward_zero = (exact.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    gap = (toward_zero.view(np.uint32) + np.uint32(1 << 16)).view(np.float32) - toward_zero
    with np.errstate(invalid="ignore"):
        part = (exact.astype(np.float64) - toward_zero) / gap * 2.0**16
        goes_up = random + part >= 2.0**16
        chosen = np.where(goes_up, toward_zero + gap, toward_zero)
    return np.where(np.isfinite(exact), chosen, exact).astype(np.float32)
