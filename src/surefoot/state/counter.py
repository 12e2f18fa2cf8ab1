"""The counter of updates: its dtype and its limits."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.arguments.checks import whole_number
from surefoot.variables.keras_optimizer import new_variable, put_variables, with_inner_optimizers

_INT32_MAX = 2**31 - 1
MAX_UPDATES = 2**53
"""Larger counts are not all exact in float64, in which steps are computed."""


def widen_counter(optimizer: Any) -> None:
    """Give a new Keras optimizer the backend's widest counter; Keras's int32 ends at 2^31 - 1."""
    counter = optimizer._iterations
    dtype = engines.active().counter_dtype()
    if keras.backend.standardize_dtype(counter.dtype) == dtype:
        return
    kind = engines.active().COUNTER
    wide = new_variable(optimizer, 0, name="iteration", dtype=dtype, kind=kind)
    variables = [wide if v is counter else v for v in optimizer._variables]
    optimizer._iterations = wide
    put_variables(optimizer, variables)


def prevent_counter_overflow(optimizer: Any) -> None:
    """Prevent an int32 counter from overflowing in the next step; this is part of the step.

    A counter at its maximum is set back by a common period of accumulation, Lookahead's
    synchronization and the overwriting with the moving average. The scalars of a step do not
    change: they have converged long before.
    """
    chain = list(with_inner_optimizers(optimizer))
    counters = [
        counter
        for counter in (one._iterations for one in chain)
        if keras.backend.standardize_dtype(counter.dtype) == "int32"
    ]
    if not counters:
        return
    periods = [
        (one.gradient_accumulation_steps or 1)
        * (one.ema_overwrite_frequency or 1)
        * getattr(one, "period", 1)
        for one in chain
    ]
    for counter in counters:
        value = keras.ops.convert_to_tensor(counter)
        at_end = keras.ops.equal(value, _INT32_MAX)
        counter.assign(value - keras.ops.where(at_end, min(math.prod(periods), 2**30), 0))


def updates_done(optimizer: Any) -> Any:
    """The number of updates that any Keras optimizer has made, in the counter's dtype.

    It is a copy, which the next step does not change. Keras's own division converts it to int32
    on PyTorch.
    """
    steps = optimizer.gradient_accumulation_steps
    counter = optimizer._iterations if steps else optimizer.iterations
    return keras.ops.convert_to_tensor(counter) // (steps or 1)


def checked_updates(optimizer: Any, value: Any) -> int:
    """``value`` as an int, if it is a number of updates that an optimizer can count.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not whole, negative, or more than the optimizer or an inner
            optimizer can count.
    """
    whole_number("iterations", value)
    updates = int(keras.ops.convert_to_numpy(value)) if hasattr(value, "dtype") else int(value)
    most = MAX_UPDATES
    for one in with_inner_optimizers(optimizer):
        counter = keras.backend.standardize_dtype(one._iterations.dtype)
        steps = one.gradient_accumulation_steps or 1
        most = min(most, int(np.iinfo(counter).max) // steps)
    if updates > most:
        raise ValueError(
            f"The optimizer '{optimizer.name}' counts up to {most} updates"
            f"{'' if most == MAX_UPDATES else ' on this backend'}. "
            f"Received: iterations={value!r}"
        )
    return updates
