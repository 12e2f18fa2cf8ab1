"""Parts of a step that XLA compiles on TensorFlow, to pass over memory once.

XLA holds the locks of all variables that it updates while it runs, and works in their memory only
where no other tensor shares the buffer of a variable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.engines.callers import calling_objects
from surefoot.variables.variable import value_of


def may_compile(variables: list[Any]) -> bool:
    """Whether XLA may compile one function for all of these variables.

    Not where `tf.debugging.enable_check_numerics` or its like watches every
    operation, by operations that XLA does not know. TensorFlow has no public
    way to ask for that.
    """
    watched = tf.config.functions_run_eagerly() or bool(context.context().op_callbacks)
    return not watched and len({value_of(v).device for v in variables}) == 1


def run(action: Callable[[], None]) -> None:
    """Let XLA compile ``action`` into the graph that is being traced."""
    if is_traced_for_xla():
        action()
    else:
        tf.function(action, jit_compile=True, autograph=False)()


def run_if(condition: tf.Tensor, action: Callable[[], None], device: str) -> None:
    """Run ``action`` on one device if ``condition`` of the graph holds.

    As `tf.cond` would, which passes each of the some hundred tensors that a
    branch uses through an operation of its own, at every step.
    """

    def taken() -> None:
        with tf.device(device):
            action()

    branch = tf.function(taken, autograph=False).get_concrete_function()
    inputs = branch.captured_inputs
    idle = tf.function(lambda *tensors: None, autograph=False).get_concrete_function(
        *[tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in inputs]
    )
    for function in (branch, idle):
        function.add_to_graph(tf.compat.v1.get_default_graph())
    with tf.device(device):
        tf.raw_ops.If(
            cond=condition,
            input=inputs,
            Tout=[],
            output_shapes=[],
            then_branch=branch,
            else_branch=idle,
        )


def is_traced_for_xla() -> bool:
    """Whether a `tf.function` with `jit_compile=True` is being traced.

    Only speed depends on the answer. TensorFlow has no way to ask, but the
    `tf.function` is among the callers.
    """
    return any(
        isinstance(caller, tf.types.experimental.PolymorphicFunction)
        and getattr(caller, "_jit_compile", False)
        for caller in calling_objects()
    )


def kept_apart(value: tf.Tensor) -> tf.Tensor:
    """``value`` behind a barrier to XLA's fusion.

    Selections that are fused read each other's old values and so need copies.
    TensorFlow has the operation, but not among its public ones; without it the
    step is slower and the same.
    """
    try:
        from tensorflow.compiler.tf2xla.python import xla
    except ImportError:
        return value
    (kept,) = xla.optimization_barrier(value)
    return kept
