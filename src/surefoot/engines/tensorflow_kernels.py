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

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.rule import Array, StepScalars
from surefoot.slots import Tracked, is_low_precision

if TYPE_CHECKING:
    from surefoot.moments import MomentOptimizer

Pairs = list[tuple[Tracked, Any]]
UpdateVariable = Callable[..., None]

# The kernel takes beta and forms 1 - beta from it, in float32: off by 1.3e-5 of
# it for 0.999, by 1.4e-3 for 0.99999. Half of that is the step's relative error.
_LARGEST_COMPLEMENT_ERROR = 2.0**-15


def serves(tracked: Tracked, gradient: Any) -> bool:
    """Whether the fast ways apply to a variable: dense, float32 or float64."""
    return not isinstance(gradient, tf.IndexedSlices) and not is_low_precision(tracked.variable)


def share_a_device(pairs: Pairs) -> bool:
    """Whether one compiled function may hold all variables."""
    return len({_native(t.variable).device for t, _ in pairs}) == 1


def numerics_are_checked() -> bool:
    """Whether `tf.debugging.enable_check_numerics` or its like watches every operation.

    Its checks are operations that XLA does not know. TensorFlow has no public
    way to ask.
    """
    return bool(context.context().op_callbacks)


def update(
    optimizer: MomentOptimizer,
    scalars: StepScalars,
    pairs: Pairs,
    update_variable: UpdateVariable,
) -> None:
    """Update all variables by the kernel where it is the rule, else as it stands.

    Whether it is, is decided by the graph at every step: RAdam's first steps
    are not adaptive, and weight decay may be switched on at any time.
    """

    def plain() -> None:
        for tracked, gradient in pairs:
            update_variable(optimizer, scalars, tracked, gradient)

    def compiled() -> None:
        _compiled(optimizer, pairs, update_variable)(scalars, [g for _, g in pairs])

    # XLA, which the user's own function may be compiled by, has no kernel for
    # amsgrad, not even for a branch that is not taken.
    if scalars.gradient_weight is not None or any(t.vhat is not None for t, _ in pairs):
        compiled()
        return
    decays = callable(optimizer.weight_decay) or optimizer.weight_decay != 0.0
    is_rule = tf.logical_and(
        tf.logical_and(scalars.adaptive, tf.equal(scalars.shrink, 0.0)), _betas_fit(scalars)
    )
    tf.cond(
        is_rule,
        _branch(lambda: _by_kernel(scalars, pairs)),
        # Compiling is worth it for all steps, but not for RAdam's first five.
        _branch(compiled if decays else plain),
    )


def _branch(action: Callable[[], None]) -> Callable[[], tf.Tensor]:
    def run() -> tf.Tensor:
        action()
        return tf.constant(0)

    return run


def _betas_fit(scalars: StepScalars) -> Array:
    def fits(complement: Array) -> Array:
        rounded = tf.cast(1.0 - tf.cast(1.0 - complement, tf.float32), tf.float64)
        return tf.abs(rounded - complement) <= _LARGEST_COMPLEMENT_ERROR * complement

    return tf.logical_and(fits(scalars.one_minus_beta_1), fits(scalars.one_minus_beta_2))


def _by_kernel(scalars: StepScalars, pairs: Pairs) -> None:
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + epsilon, so divide by s.
    rate = scalars.moment_weight / scalars.root_scale
    epsilon = scalars.epsilon / scalars.root_scale
    for tracked, gradient in pairs:
        parameter = _native(tracked.variable)

        def cast(value: Array, dtype: tf.DType = parameter.dtype) -> Array:
            return tf.cast(value, dtype)

        tf.raw_ops.ResourceApplyAdam(
            var=parameter.handle,
            m=_native(tracked.m).handle,
            v=_native(tracked.v).handle,
            beta1_power=cast(0.0),
            beta2_power=cast(0.0),
            lr=cast(rate),
            beta1=cast(1.0 - scalars.one_minus_beta_1),
            beta2=cast(1.0 - scalars.one_minus_beta_2),
            epsilon=cast(epsilon),
            grad=cast(gradient),
        )


def _compiled(
    optimizer: MomentOptimizer, pairs: Pairs, update_variable: UpdateVariable
) -> Callable[..., None]:
    # Each replica of a distribution strategy has variables of its own.
    key = ("xla", _native(pairs[0][0].variable).device, *(t.index for t, _ in pairs))
    functions = optimizer.eager_steps
    if key not in functions:
        tracked = [t for t, _ in pairs]

        def run(scalars: StepScalars, gradients: list[Any]) -> None:
            for entry, gradient in zip(tracked, gradients, strict=True):
                update_variable(optimizer, scalars, entry, gradient)

        functions[key] = tf.function(run, jit_compile=True, autograph=False)
    return functions[key]


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable
