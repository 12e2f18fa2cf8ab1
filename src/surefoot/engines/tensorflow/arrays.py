"""The functions of the rule on TensorFlow: see `surefoot.engines.Engine.arrays`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import abs, maximum, ones_like, sqrt, tanh, where, zeros_like
from tensorflow import reduce_sum as sum
from tensorflow.math import is_finite as isfinite
from tensorflow.math import is_nan as isnan

__all__ = [
    "abs",
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


def places(like: tf.Tensor) -> tf.Tensor:
    """The places of the numbers of an array."""
    count = tf.size(like, tf.int64)
    return tf.reshape(tf.cast(tf.range(count), tf.int32), tf.shape(like))


def integer(x: Any) -> tf.Tensor:
    """A whole number as int32."""
    return tf.cast(x, tf.int32)


def number(x: tf.Tensor) -> tf.Tensor:
    """An int32 as float32."""
    return tf.cast(x, tf.float32)


def to_bits(x: tf.Tensor) -> tf.Tensor:
    """The bits of a float32 as int32."""
    return tf.bitcast(x, tf.int32)


def from_bits(x: tf.Tensor) -> tf.Tensor:
    """The float32 that has these bits."""
    return tf.bitcast(x, tf.float32)


def shifted_right(x: tf.Tensor, bits: int) -> tf.Tensor:
    """The bits of an int32, moved to the right, with zeros from the left."""
    return tf.bitwise.right_shift(x, bits) & ((1 << (32 - bits)) - 1)
