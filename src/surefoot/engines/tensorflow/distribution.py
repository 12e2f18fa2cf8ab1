"""One update on every replica of a `tf.distribute.Strategy`.

Gradients are summed first, as the originals did and Keras 3 does not: then
clipping, accumulation and the test for NaN see what one worker with the whole
batch would see, and decide the same on every replica. What follows needs no
other replica, so it runs on each of them as if there were no strategy: with
conditions, fused kernels and slots that live beside their variables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.tensorflow import tracing
from surefoot.variables.keras_optimizer import with_inner_optimizers
from surefoot.variables.variable import value_of, variable_path

# Methods of Keras's that look for other replicas, which here have their own turn.
_CROSS_REPLICA_METHODS = (
    "_apply_weight_decay",
    "_backend_increment_gradient_accumulators",
    "_backend_update_step",
    "_overwrite_model_variables_with_average_value",
)


def strategy_of(variables: list[Any]) -> tf.distribute.Strategy | None:
    """The strategy in whose scope we are, or else that of ``variables``; None for neither."""
    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    return next((owner for owner in map(_owner, variables) if owner is not None), None)


def _owner(variable: Any) -> tf.distribute.Strategy | None:
    return getattr(value_of(variable), "distribute_strategy", None)


# AutoGraph has nothing to convert in a step, and would take its time to find that out.
@tf.autograph.experimental.do_not_convert
def run(
    strategy: tf.distribute.Strategy,
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    variables: list[Any] | None,
    step: Callable[[list[Any], list[Any]], None],
) -> None:
    """Sum ``gradients`` over the replicas if that is wanted; run ``step`` on each replica.

    Raises:
        ValueError: If the optimizer was not made in the strategy's scope.
    """
    replica = tf.distribute.get_replica_context() if tf.distribute.has_strategy() else None
    if replica is not None and optimizer.aggregates_gradients:
        gradients = _summed(replica, gradients, variables)

    def merged(strategy: tf.distribute.Strategy, gradients: list[Any]) -> None:
        # Lifted out of the graph: there, replicas' first values would wait for each other.
        with tf.init_scope(), strategy.scope():
            known = optimizer.all_trainable_variables(variables)
        _require_replicated(strategy, optimizer)

        def on_one_replica(_: Any, gradients: list[Any]) -> None:
            with _alone(optimizer):
                step(gradients, known)

        strategy.extended.update(value_of(known[0]), on_one_replica, args=(gradients,), group=False)
        tracing.note(optimizer)

    if replica is None:
        merged(strategy, gradients)
    else:
        tf.__internal__.distribute.interim.maybe_merge_call(merged, strategy, gradients)


def _summed(replica: Any, gradients: list[Any], variables: list[Any] | None) -> list[Any]:
    """The gradients summed over replicas; those that are a variable's new value stay."""
    is_value = [
        getattr(v, "overwrite_with_gradient", False) for v in variables or [None] * len(gradients)
    ]
    chosen = [
        i
        for i, (gradient, value) in enumerate(zip(gradients, is_value, strict=True))
        if gradient is not None and not value
    ]
    if not chosen:
        return gradients
    sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, [gradients[i] for i in chosen])
    result = list(gradients)
    for i, total in zip(chosen, sums, strict=True):
        result[i] = total
    return result


def _require_replicated(strategy: tf.distribute.Strategy, optimizer: SteppedOptimizer) -> None:
    """Refuse state that the replicas would share, and each advance."""
    elsewhere = [v for v in optimizer.variables if _owner(v) is not strategy]
    if elsewhere and _owner(optimizer._trainable_variables[0]) is strategy:
        raise ValueError(
            f"The optimizer '{optimizer.name}' must be created inside `strategy.scope()` of the "
            f"{type(strategy).__name__} that its model variables belong to. Received: a variable "
            f"of the optimizer from outside of it, '{variable_path(elsewhere[0])}'"
        )


@contextlib.contextmanager
def _alone(optimizer: Any) -> Iterator[None]:
    """Let Keras's optimizers, ours and those inside of them, update one replica."""
    shadowed = []
    for one in with_inner_optimizers(optimizer):
        base = _base_optimizer()
        for name in _CROSS_REPLICA_METHODS:
            if _defining(type(one), name) is _defining(keras.optimizers.Optimizer, name):
                # Past Keras's attribute tracking, and never saved.
                one.__dict__[name] = getattr(base, name).__get__(one)
                shadowed.append((one, name))
    try:
        yield
    finally:
        for one, name in shadowed:
            one.__dict__.pop(name, None)


def _defining(owner: type, name: str) -> type:
    return next(c for c in owner.__mro__ if name in vars(c))


def _base_optimizer() -> type:
    """Keras's optimizer without what it adds for TensorFlow's strategies."""
    return _defining(keras.optimizers.Optimizer, "_backend_apply_gradients")
