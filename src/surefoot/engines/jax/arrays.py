"""The functions of the rule on JAX: see `surefoot.engines.Engine.arrays`."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import numpy as jnp
from jax.numpy import (
    abs,
    clip,
    isfinite,
    isnan,
    maximum,
    ones_like,
    sqrt,
    sum,
    tanh,
    where,
    zeros_like,
)

from surefoot.rule.update import Array

__all__ = [
    "abs",
    "clip",
    "isfinite",
    "isnan",
    "maximum",
    "ones_like",
    "sqrt",
    "sum",
    "tanh",
    "where",
    "zeros_like",
]


def places(like: Array) -> Array:
    """The places of the numbers of an array, by each of its axes: so XLA can split them, too."""
    found = jnp.zeros(like.shape, "int32")
    for axis in range(like.ndim):
        step = math.prod(like.shape[axis + 1 :])
        along = jax.lax.broadcasted_iota("int32", like.shape, axis)
        found = found + along * jnp.uint32(step % (1 << 32)).astype("int32")
    return found


def integer(x: Any) -> Array:
    """A whole number as int32."""
    return jnp.asarray(x).astype("int32")


def number(x: Array) -> Array:
    """An int32 as float32."""
    return x.astype("float32")


def to_bits(x: Array) -> Array:
    """The bits of a float32 as int32."""
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def from_bits(x: Array) -> Array:
    """The float32 that has these bits."""
    return jax.lax.bitcast_convert_type(x, jnp.float32)


def shifted_right(x: Array, bits: int) -> Array:
    """The bits of an int32, moved to the right, with zeros from the left."""
    return jax.lax.shift_right_logical(x, jnp.int32(bits))
