"""Steps outside of a `tf.function`, each traced as a whole; and who runs a step inside of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.tensorflow import distribution, shapes, sparse, tracing


def run_step(optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
    """Trace an eager update as a whole, once for each set of variables."""
    known = variables or optimizer._trainable_variables
    if len(gradients) == len(known):  # else Keras complains
        gradients = list(map(shapes.fitting, gradients, known))
    inline = (
        not gradients
        or tf.inside_function()
        or tf.config.functions_run_eagerly()
        or not optimizer.compiles_eagerly()
        or (variables is None and not optimizer.built)
    )
    # Nothing in it needs AutoGraph, which would take its time to find that out.
    inline_apply = tf.autograph.experimental.do_not_convert(optimizer.inline_apply)
    strategy = (
        None
        if _step_key(optimizer, known) in optimizer.eager_steps and not tf.distribute.has_strategy()
        # Asked of all variables: once for each step that is traced, not at each step.
        else distribution.strategy_of(known)
    )
    if strategy is not None and any(g is not None for g in gradients):
        distribution.run(strategy, optimizer, gradients, variables, inline_apply)
        return
    with optimizer.step_lock:  # one thread builds and traces, and counts
        if inline:
            inline_apply(gradients, variables)
            tracing.note(optimizer)
        else:
            _traced_and_run(optimizer, gradients, variables, inline_apply)


def _traced_and_run(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    variables: list[Any] | None,
    inline_apply: Callable[..., None],
) -> None:
    variables = optimizer.all_trainable_variables(variables)
    for gradient, variable in zip(gradients, variables, strict=False):
        if isinstance(gradient, tf.IndexedSlices):
            sparse.check_rows(gradient, variable)
    optimizer.refuse_nonfinite(gradients, variables)
    key = _step_key(optimizer, variables)
    steps = optimizer.eager_steps
    if key not in steps:

        def step(gradients: list[Any]) -> None:
            inline_apply(gradients, variables)

        steps[key] = _TracedStep(step)
    steps[key](gradients)


class _TracedStep:
    """A function of gradients, traced once for each combination of their dtypes.

    A `tf.function` looks at the type of every tensor at each call, which for some hundred
    gradients takes longer than to run the graph.
    """

    def __init__(self, function: Callable[[list[Any]], None]) -> None:
        self._function = tf.function(function, reduce_retracing=True, autograph=False)
        self._by_dtypes: dict[tuple[tf.DType | None, ...], Any] = {}

    def __call__(self, gradients: list[Any]) -> None:
        if any(isinstance(g, tf.IndexedSlices) for g in gradients):
            self._function(gradients)
            return
        dtypes = tuple(None if g is None else g.dtype for g in gradients)
        if dtypes not in self._by_dtypes:
            specs = [None if g is None else tf.TensorSpec(g.shape, g.dtype) for g in gradients]
            self._by_dtypes[dtypes] = self._function.get_concrete_function(specs)
        traced = self._by_dtypes[dtypes]
        given = [g for g in gradients if g is not None]
        # Past the function's look at its arguments. The operation that calls functions in
        # graphs, which is public, would run one thread.
        context.context().call_function(traced.name, [*given, *traced.captured_inputs], 0)


def _step_key(optimizer: SteppedOptimizer, variables: list[Any]) -> tuple[int, ...]:
    return (*optimizer.compile_key(), *(id(v) for v in variables))
