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


def device_floor(count: int) -> Running:
    """A pass that reads and writes ``count`` float32 numbers of the device's memory."""
    variable = tf.Variable(tf.ones(count))
    negate = tf.function(lambda: variable.assign(-variable), jit_compile=True)
    small = tf.Variable(0.0)
    return Running(negate, small.numpy)


def device_costs(running: Running, steps: int) -> tuple[int, None, None]:
    """Bytes above the resident."""
    tf.config.experimental.reset_memory_stats("GPU:0")
    resident = tf.config.experimental.get_memory_info("GPU:0")["current"]
    for _ in range(steps):
        running.step()
    running.wait()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] - resident, None, None
