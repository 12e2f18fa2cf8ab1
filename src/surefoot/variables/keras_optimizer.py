"""What an optimizer of Keras has: variables that its constructor makes, optimizers inside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def put_learning_rate(optimizer: Any, value: Any) -> None:
    """Put a schedule in the place of the number that is the learning rate, or the other way."""
    variables = [v for v in optimizer._variables if v is not optimizer._learning_rate]
    if not callable(value):
        value = new_variable(optimizer, value, name="learning_rate", dtype=keras.backend.floatx())
        # Where Keras's constructor has it, since some of its formats go by position.
        variables.insert(1, value)
    del optimizer._learning_rate  # else TensorFlow's checkpoints would keep the old one
    optimizer._learning_rate = value
    put_variables(optimizer, variables)


def new_variable(optimizer: Any, value: Any, name: str, dtype: str) -> Any:
    """A variable such as Keras's constructor makes; no optimizer has it yet."""
    with keras.name_scope(optimizer.name, caller=optimizer):
        return keras.Variable(
            value, name=name, dtype=dtype, trainable=False, aggregation="only_first_replica"
        )


def put_variables(optimizer: Any, variables: list[Any]) -> None:
    """Put another list in the place of an optimizer's, as Keras's constructor puts the first.

    TensorFlow's checkpoints refuse a list that has lost an entry.
    """
    tracker = optimizer.__dict__.pop("_tracker")  # which would wrap the list
    optimizer._variables = variables
    optimizer._tracker = tracker
    is_variable, _ = tracker.config["variables"]
    tracker.config["variables"] = is_variable, optimizer._variables
    tracker.stored_ids["variables"] = {id(v) for v in variables}


def with_inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """``optimizer`` and those that it wraps, from the outside in."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)
