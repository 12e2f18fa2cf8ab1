"""How far an optimizer counts its updates."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.arguments.checks import whole_number
from surefoot.variables.keras_optimizer import new_variable, put_variables, with_inner_optimizers

_INT32_END = 2**31 - 1
MOST_UPDATES = 2**53
"""Beyond it, not every count is a float64, in which steps are computed."""


def widen_counter(optimizer: Any) -> None:
    """Let any Keras optimizer count as far as the backend can; Keras's int32 ends at 2^31 - 1."""
    counter = optimizer._iterations
    dtype = engines.active().counter_dtype()
    if keras.backend.standardize_dtype(counter.dtype) == dtype:
        return
    value = keras.ops.convert_to_numpy(counter.value)
    wide = new_variable(optimizer, value, name="iteration", dtype=dtype)
    variables = [wide if v is counter else v for v in optimizer._variables]
    optimizer._iterations = wide
    put_variables(optimizer, variables)


def leave_room_to_count(optimizer: Any) -> None:
    """Let no counter wrap in the step that follows; a part of the step, and only for int32.

    A counter that is at its end goes back by the steps after which all that recurs does so
    again: accumulation, Lookahead's period, the moving average in the weights. The scalars of a
    step are the same there: they have long converged.
    """
    chain = list(with_inner_optimizers(optimizer))
    recurring = [
        (one.gradient_accumulation_steps or 1)
        * (one.ema_overwrite_frequency or 1)
        * getattr(one, "sync_period", 1)
        for one in chain
    ]
    for counter in (one._iterations for one in chain):
        if keras.backend.standardize_dtype(counter.dtype) == "int32":
            value = keras.ops.convert_to_tensor(counter)
            at_end = keras.ops.equal(value, _INT32_END)
            counter.assign(value - keras.ops.where(at_end, min(math.prod(recurring), 2**30), 0))


def updates_done(optimizer: Any) -> Any:
    """The number of updates that any Keras optimizer has made, in the counter's dtype.

    It is a tensor of its own, which the next step leaves alone. Keras's own division makes an
    int32 of it on PyTorch.
    """
    steps = optimizer.gradient_accumulation_steps
    counter = optimizer._iterations if steps else optimizer.iterations
    return keras.ops.convert_to_tensor(counter) // (steps or 1)


def checked_updates(optimizer: Any, value: Any) -> int:
    """The number of updates that ``value`` is, if an optimizer can count so far.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not whole, negative, or more than can be counted, here or inside.
    """
    whole_number("iterations", value)
    updates = int(keras.ops.convert_to_numpy(value)) if hasattr(value, "dtype") else int(value)
    most = MOST_UPDATES
    for one in with_inner_optimizers(optimizer):
        counter = keras.backend.standardize_dtype(one._iterations.dtype)
        steps = one.gradient_accumulation_steps or 1
        most = min(most, int(np.iinfo(counter).max) // steps)
    if updates > most:
        raise ValueError(
            f"The optimizer '{optimizer.name}' counts up to {most} updates"
            f"{'' if most == MOST_UPDATES else ' on this backend'}. "
            f"Received: iterations={value!r}"
        )
    return updates
