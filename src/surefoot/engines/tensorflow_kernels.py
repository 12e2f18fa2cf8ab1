"""The rule by TensorFlow's fused Adam kernel, or compiled by XLA.

A graph of elementwise operations makes one pass over memory for each of them.
Two ways make one pass of all: the kernel behind Keras 2's Adam, which *is* the
rule where Nesterov momentum and weight decay are zero and the step is adaptive
(its own bias correction switched off by zero powers), and a nested function
compiled by XLA, which serves every case but takes seconds to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.engines import plain, tensorflow_plain
from surefoot.engines.callers import calling_objects
from surefoot.rule import Array, Moments, StepScalars
from surefoot.slots import Tracked, is_low_precision, value_of

if TYPE_CHECKING:
    from surefoot.moments import MomentOptimizer

Pairs = list[tuple[Tracked, Any]]


def serves(tracked: Tracked, gradient: Any) -> bool:
    """Whether the fast ways apply to a variable: dense, float32 or float64."""
    return not isinstance(gradient, tf.IndexedSlices) and not is_low_precision(tracked.variable)


def may_compile(variables: list[Any]) -> bool:
    """Whether XLA may compile one function for all of these variables.

    Not where `tf.debugging.enable_check_numerics` or its like watches every
    operation, by operations that XLA does not know. TensorFlow has no public
    way to ask for that.
    """
    watched = tf.config.functions_run_eagerly() or bool(context.context().op_callbacks)
    return not watched and len({value_of(v).device for v in variables}) == 1


def may_loop(variables: list[Any]) -> bool:
    """Whether loops may take these variables: XLA does not know them."""
    return bool(variables) and may_compile(variables) and not is_traced_for_xla()


def update(optimizer: MomentOptimizer, scalars: StepScalars, pairs: Pairs) -> None:
    """Update all variables by the kernel where it is the rule, else as it stands.

    Whether it is, is decided by the graph at every step: RAdam's first steps
    are not adaptive, and a beta may be set anew at any time.
    """
    if is_traced_for_xla():
        # XLA fuses the rule, and would copy all state for a conditional.
        for tracked, gradient in pairs:
            tensorflow_plain.update_variable(optimizer, scalars, tracked, gradient)
        return
    decays = callable(optimizer.weight_decay) or optimizer.weight_decay != 0.0
    # XLA, should it be at work unnoticed, has no kernel for amsgrad, not even
    # for a branch that is not taken.
    amsgrad = any(t.vhat is not None for t, _ in pairs)
    if scalars.gradient_weight is not None or decays or amsgrad:
        _compiled(optimizer, pairs)(scalars, [g for _, g in pairs])
        return
    is_rule = tf.logical_and(scalars.adaptive, tf.equal(scalars.shrink, 0.0))
    by_kernel = tf.logical_and(is_rule, _betas_fit(scalars))
    device = value_of(pairs[0][0].variable).device
    run_if(by_kernel, lambda: _by_kernel(scalars, pairs), device)
    run_if(tf.logical_not(by_kernel), lambda: _by_shared_function(scalars, pairs), device)


def run_if(condition: tf.Tensor, action: Callable[[], None], device: str) -> None:
    """Run ``action``, all of it on one device, if ``condition`` holds.

    As `tf.cond` would, which passes each of the some hundred tensors that a
    branch uses through an operation of its own, at every step.
    """
    if tf.executing_eagerly():
        if condition:
            action()
        return

    def run() -> None:
        with tf.device(device):
            action()

    taken = tf.function(run, autograph=False).get_concrete_function()
    inputs = taken.captured_inputs
    idle = tf.function(lambda *tensors: None, autograph=False).get_concrete_function(
        *[tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in inputs]
    )
    for branch in (taken, idle):
        branch.add_to_graph(tf.compat.v1.get_default_graph())
    with tf.device(device):
        tf.raw_ops.If(
            cond=condition,
            input=inputs,
            Tout=[],
            output_shapes=[],
            then_branch=taken,
            else_branch=idle,
        )


def _by_shared_function(scalars: StepScalars, pairs: Pairs) -> None:
    """The plain rule, traced once for all variables of a dtype instead of once for each."""
    by_dtype: dict[tf.DType, Pairs] = {}
    for tracked, gradient in pairs:
        by_dtype.setdefault(value_of(tracked.variable).dtype, []).append((tracked, gradient))
    for dtype, alike in by_dtype.items():
        step = _shared_function(dtype)
        for tracked, gradient in alike:
            variables = (tracked.variable, tracked.m, tracked.v)
            handles = [value_of(variable).handle for variable in variables]
            step(handles, tf.cast(gradient, dtype), plain.own_scalars(tf, scalars, tracked))


def _shared_function(dtype: tf.DType) -> Callable[..., None]:
    """The plain rule for a parameter of any shape, its m and its v, given as handles."""

    def step(handles: list[tf.Tensor], gradient: tf.Tensor, scalars: StepScalars) -> None:
        parameter, m, v = (tf.raw_ops.ReadVariableOp(resource=h, dtype=dtype) for h in handles)
        state = plain.VariableState(parameter, Moments(m, v, None), None)
        scalars = plain.cast_scalars(scalars, lambda x: tf.cast(x, dtype))
        new = plain.stepped(tf, tf.cast, state, gradient, scalars)
        for handle, value in zip(
            handles, (new.parameter, new.moments.m, new.moments.v), strict=True
        ):
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    number = tf.TensorSpec((), tf.float64)
    scalars = StepScalars(number, number, None, *[number] * 5)
    return tf.function(
        step, autograph=False, experimental_attributes={"_noinline": True}
    ).get_concrete_function(
        [tf.TensorSpec((), tf.resource)] * 3,
        tf.TensorSpec(None, dtype),
        scalars._replace(adaptive=tf.TensorSpec((), tf.bool)),
    )


def is_traced_for_xla() -> bool:
    """Whether a `tf.function` with `jit_compile=True` is being traced.

    Only speed depends on the answer. TensorFlow tells it nobody but the
    function itself, which is among the callers.
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


def _betas_fit(scalars: StepScalars) -> Array:
    def fits(complement: Array) -> Array:
        rounded = tf.cast(1.0 - tf.cast(1.0 - complement, tf.float32), tf.float64)
        error = tf.abs(rounded - complement) / complement
        # Beyond the middle the kernel's sum is less exact than the rule's.
        return (error <= plain.LARGEST_COMPLEMENT_ERROR) & (complement <= 0.5)

    return tf.logical_and(fits(scalars.one_minus_beta_1), fits(scalars.one_minus_beta_2))


def _by_kernel(scalars: StepScalars, pairs: Pairs) -> None:
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + epsilon, so divide by s.
    arguments = {
        "beta1_power": tf.zeros_like(scalars.shrink),
        "beta2_power": tf.zeros_like(scalars.shrink),
        "lr": scalars.moment_weight / scalars.root_scale,
        "beta1": 1.0 - scalars.one_minus_beta_1,
        "beta2": 1.0 - scalars.one_minus_beta_2,
        "epsilon": scalars.epsilon / scalars.root_scale,
    }
    dtypes = {value_of(t.variable).dtype for t, _ in pairs}
    cast = {d: {name: tf.cast(x, d) for name, x in arguments.items()} for d in dtypes}
    for tracked, gradient in pairs:
        parameter = value_of(tracked.variable)
        tf.raw_ops.ResourceApplyAdam(
            var=parameter.handle,
            m=value_of(tracked.m).handle,
            v=value_of(tracked.v).handle,
            grad=tf.cast(gradient, parameter.dtype),
            **cast[parameter.dtype],
        )


def _compiled(optimizer: MomentOptimizer, pairs: Pairs) -> Callable[..., None]:
    # Each replica of a distribution strategy has variables of its own.
    key = ("xla", value_of(pairs[0][0].variable).device, *(t.index for t, _ in pairs))
    functions = optimizer.eager_steps
    if key not in functions:
        tracked = [t for t, _ in pairs]

        def run(scalars: StepScalars, gradients: list[Any]) -> None:
            for entry, gradient in zip(tracked, gradients, strict=True):
                tensorflow_plain.update_variable(optimizer, scalars, entry, gradient)

        functions[key] = tf.function(run, jit_compile=True, autograph=False)
    return functions[key]
