"""The plain rule on one variable, dense or sparse, as operations of TensorFlow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from surefoot.engines import plain
from surefoot.engines.contract import RuleOptimizer
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Tracked
from surefoot.variables.variable import is_low_precision, value_of, variable_path

ARRAYS = SimpleNamespace(
    abs=tf.abs,
    isfinite=tf.math.is_finite,
    maximum=tf.maximum,
    ones_like=tf.ones_like,
    sqrt=tf.sqrt,
    where=tf.where,
    zeros_like=tf.zeros_like,
)
"""TensorFlow's functions under the names of NumPy, as the rule calls them."""


def update_variable(
    optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
) -> None:
    """Apply the rule to one variable; of a sparse gradient, to its rows."""
    scalars = plain.scalars_of_variable(ARRAYS, scalars, tracked)
    dtype = tf.as_dtype(tracked.m.dtype)
    scalars = plain.cast_scalars(scalars, lambda x: tf.cast(x, dtype))
    if isinstance(gradient, tf.IndexedSlices):
        _update_rows(optimizer, scalars, tracked, gradient)
        return
    rounded = _stochastic(optimizer, tracked, tf.shape(gradient))
    new = plain.stepped(ARRAYS, tf.cast, _read(tracked), gradient, scalars, rounded)
    value_of(tracked.variable).assign(new.parameter)
    for slot, value in _slots_and_values(tracked, new):
        slot.assign(value)


def _update_rows(
    optimizer: RuleOptimizer,
    scalars: StepScalars,
    tracked: Tracked,
    gradient: tf.IndexedSlices,
) -> None:
    """The originals' sparse step: moments decay everywhere, parameters move where touched.

    If the optimizer is lazy, moments too change only where touched.
    """
    values, rows = summed_duplicates(gradient)

    def gathered(variable: Any) -> tf.Tensor | None:
        # From the variable itself: reading it as a whole copies it.
        return None if variable is None else tf.gather(value_of(variable), rows)

    touched = plain.VariableState(
        gathered(tracked.variable),
        Moments(*map(gathered, tracked.moments)),
        gathered(tracked.master),
    )
    rounded = _stochastic(optimizer, tracked, tf.shape(values))
    new = plain.stepped(ARRAYS, tf.cast, touched, values, scalars, rounded)
    if not optimizer.lazy:
        resting = plain.decayed_without_gradient(ARRAYS, _read(tracked).moments, scalars)
        for slot, moment in zip(tracked.moments, resting, strict=True):
            if slot is not None:
                slot.value.assign(moment)
    value_of(tracked.variable).scatter_update(tf.IndexedSlices(new.parameter, rows))
    for slot, value in _slots_and_values(tracked, new):
        slot.value.scatter_update(tf.IndexedSlices(value, rows))


def summed_duplicates(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """The values of a sparse gradient, those of a row summed, and the rows."""
    rows, positions = tf.unique(gradient.indices)
    return tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows)), rows


_BITS = plain.BitCasts(lambda x: tf.bitcast(x, tf.int16), tf.bitcast)


def _stochastic(optimizer: RuleOptimizer, tracked: Tracked, shape: tf.Tensor) -> plain.Cast | None:
    """Random rounding whose randomness is a function of seed, step and variable."""
    if optimizer.low_precision != "stochastic" or not is_low_precision(tracked.variable):
        return None
    step = tf.cast(value_of(optimizer.iterations), tf.int64)
    seed = tf.stack([tf.constant(optimizer.seed * 1_000_003 + tracked.index, tf.int64), step])
    uniform = tf.random.stateless_uniform(shape, seed)
    return lambda exact, dtype: plain.stochastically_rounded(
        ARRAYS, tf.cast, _BITS, exact, dtype, uniform
    )


def _slots_and_values(tracked: Tracked, state: plain.VariableState) -> list[tuple[Any, Array]]:
    slots = [*tracked.moments, tracked.master]
    values = [*state.moments, state.master]
    return [(s, x) for s, x in zip(slots, values, strict=True) if s is not None]


def _read(tracked: Tracked) -> plain.VariableState:
    parameter = tf.convert_to_tensor(value_of(tracked.variable))
    if is_shape_open(tracked.variable):  # may have been assigned another, and would be broadcast
        parameter = tf.ensure_shape(parameter, tracked.m.shape)
    return plain.VariableState(
        parameter,
        Moments(*(None if s is None else tf.convert_to_tensor(s.value) for s in tracked.moments)),
        None if tracked.master is None else tf.convert_to_tensor(tracked.master.value),
    )


def shape(variable: Any) -> tuple[int, ...]:
    """The present shape of a variable, which may be declared with an open one."""
    if is_shape_open(variable):
        with tf.init_scope():
            return tuple(tf.raw_ops.VariableShape(input=value_of(variable).handle).numpy().tolist())
    return tuple(variable.shape)


def is_shape_open(variable: Any) -> bool:
    """Whether values of other shapes can be assigned to a `tf.Variable`."""
    return not value_of(variable).shape.is_fully_defined()


def fitting(gradient: Any, variable: Any) -> Any:
    """A dense gradient of a graph that has to have the variable's shape when that runs."""
    if isinstance(gradient, tf.Tensor) and not gradient.shape.is_fully_defined():
        return tf.ensure_shape(gradient, shape(variable))
    return gradient


def dense_values(gradient: Any) -> tf.Tensor:
    """All numbers of a gradient, however it is stored."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def check_rows(gradient: tf.IndexedSlices, variable: Any) -> None:
    """Refuse rows outside of the table while nothing has moved yet."""
    rows = gradient.indices
    if "CPU" in rows.device and rows.shape[0]:  # elsewhere, asking would wait for the device
        first, last = int(tf.reduce_min(rows)), int(tf.reduce_max(rows))
        count = shape(variable)[0]
        if first < 0 or last >= count:
            raise ValueError(
                f"The gradient of '{variable_path(variable)}' must have row indices in "
                f"[0, {count}). Received: indices from {first} to {last}"
            )
