"""Access to the internals of a Keras optimizer: its own variables and inner optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def put_learning_rate(optimizer: Any, value: Any) -> None:
    """Replace the learning rate, a number or a schedule, with ``value``."""
    variables = [v for v in optimizer._variables if v is not optimizer._learning_rate]
    if not callable(value):
        value = new_variable(optimizer, value, name="learning_rate", dtype=keras.backend.floatx())
        # At its position in Keras's constructor, on which some file formats depend.
        variables.insert(1, value)
    del optimizer._learning_rate  # otherwise TensorFlow's checkpoints would keep the old one
    optimizer._learning_rate = value
    put_variables(optimizer, variables)


def new_variable(
    optimizer: Any,
    value: Any,
    name: str,
    dtype: str,
    kind: type[keras.Variable] = keras.Variable,
) -> Any:
    """Create a variable like Keras's constructor does; it is in no list of variables yet."""
    with keras.name_scope(optimizer.name, caller=optimizer):
        return kind(
            value, name=name, dtype=dtype, trainable=False, aggregation="only_first_replica"
        )


def put_variables(optimizer: Any, variables: list[Any]) -> None:
    """Replace an optimizer's list of variables.

    TensorFlow's checkpoints refuse a list that has lost an entry.
    """
    tracker = optimizer.__dict__.pop("_tracker")  # it would wrap the list
    optimizer._variables = variables
    optimizer._tracker = tracker
    is_variable, _ = tracker.config["variables"]
    tracker.config["variables"] = is_variable, optimizer._variables
    tracker.stored_ids["variables"] = {id(v) for v in variables}


def wrapped_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers inside a wrapper, a `LossScaleOptimizer` or a `MultiOptimizer`."""
    parts = [*getattr(optimizer, "optimizers", ()), getattr(optimizer, "inner_optimizer", None)]
    return [part for part in parts if part is not None]


def with_inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """``optimizer`` and all optimizers inside, the outermost first."""
    if optimizer is not None:
        yield optimizer
        for part in wrapped_optimizers(optimizer):
            yield from with_inner_optimizers(part)
