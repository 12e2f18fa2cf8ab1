"""The modes of a TensorFlow step, for TensorFlow of today and of 2023 alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from benchmarks.contenders import Running, Tensors


def gradients(arrays: Tensors) -> list[tf.Tensor]:
    return [tf.constant(array) for array in arrays]


def running(mode: str, apply: Callable[[], None], variables: Sequence[tf.Variable]) -> Running:
    """A step that calls `apply` eagerly, in a graph, or compiled by XLA.

    A graph captures the gradients of `apply` as inputs, so nothing is folded into constants.
    """

    def step() -> None:
        apply()

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla", autograph=False)
    smallest = min(variables, key=lambda variable: variable.shape.num_elements())
    return Running(step, smallest.numpy)
