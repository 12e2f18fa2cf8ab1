"""Activations of Keras 2 and TensorFlow Addons with another formula or name in Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="surefoot", name="keras2_hard_sigmoid")
def hard_sigmoid(x: Any) -> Any:
    """Keras 2's hard sigmoid: 0.2 x + 0.5, clipped to [0, 1].

    `keras.activations.hard_sigmoid` of Keras 3 has the slope 1/6. It is the default recurrent
    activation of Keras 2's ConvLSTM layers.

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape.

    Example:
        >>> [round(float(y), 2) for y in hard_sigmoid(ops.array([-3.0, 0.0, 1.0]))]
        [0.0, 0.5, 0.7]
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="surefoot", name="tanh_gelu")
def tanh_gelu(x: Any) -> Any:
    """`tfa.activations.gelu`: by default the approximation of GELU by a tanh.

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape.

    Example:
        >>> round(float(tanh_gelu(ops.array(1.0))), 4)
        0.8412
    """
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="surefoot", name="lisht")
def lisht(x: Any) -> Any:
    """`tfa.activations.lisht`: x tanh(x).

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape.

    Example:
        >>> round(float(lisht(ops.array(-1.0))), 4)
        0.7616
    """
    return x * ops.tanh(x)


@keras.saving.register_keras_serializable(package="surefoot", name="snake")
def snake(x: Any) -> Any:
    """`tfa.activations.snake` with its default frequency of 1: x + sin(x)^2.

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape.

    Example:
        >>> round(float(snake(ops.array(1.0))), 4)
        1.7081
    """
    return x + ops.square(ops.sin(x))


@keras.saving.register_keras_serializable(package="surefoot", name="sparsemax")
def sparsemax(x: Any) -> Any:
    """`tfa.activations.sparsemax`: the nearest point to ``x`` among probabilities.

    Martins and Astudillo, "From Softmax to Sparsemax", ICML 2016. `keras.activations.sparsemax`
    of Keras 3 (until 3.15 at least) sums where it should pick, and returns something else.

    Args:
        x: A tensor; the last axis is normalized.

    Returns:
        A tensor of the same shape, not negative, whose last axis adds up to 1.

    Example:
        >>> [round(float(y), 2) for y in sparsemax(ops.array([1.0, 0.6, -1.0]))]
        [0.7, 0.3, 0.0]
    """
    descending = ops.flip(ops.sort(x, axis=-1), axis=-1)
    counts = ops.cast(ops.arange(1, x.shape[-1] + 1), x.dtype)
    thresholds = (ops.cumsum(descending, axis=-1) - 1) / counts
    # The largest is the one of as many numbers as stay above it.
    return ops.maximum(x - ops.max(thresholds, axis=-1, keepdims=True), 0)


ADDONS: dict[str, Callable[[Any], Any]] = {
    "Addons>gelu": tanh_gelu,
    "Addons>hardshrink": keras.activations.hard_shrink,
    "Addons>lisht": lisht,
    "Addons>mish": keras.activations.mish,
    "Addons>snake": snake,
    "Addons>softshrink": keras.activations.soft_shrink,
    "Addons>sparsemax": sparsemax,
    "Addons>tanhshrink": keras.activations.tanh_shrink,
}
"""The activations of TensorFlow Addons as files name them. `rrelu` is random and not among them."""
