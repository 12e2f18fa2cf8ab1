"""Sparse gradients: the rule on the rows of a table that a step has used."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from surefoot.engines import plain
from surefoot.engines.contract import RuleOptimizer
from surefoot.engines.engine import Engine
from surefoot.engines.tensorflow.shapes import shape
from surefoot.rule.update import StepScalars
from surefoot.variables.tracked import Tracked
from surefoot.variables.variable import accumulator_dtype, value_of, variable_path


def update_rows(
    engine: Engine,
    optimizer: RuleOptimizer,
    scalars: StepScalars,
    tracked: Tracked,
    gradient: tf.IndexedSlices,
) -> None:
    """The originals' sparse step; what it does to the other rows is the optimizer's to say."""
    values, rows = summed_duplicates(engine.upcast_one(gradient))

    def read_rows(variable: Any) -> tf.Tensor:
        # Of the variable itself: reading it as a whole copies it.
        return tf.gather(value_of(variable), rows) if len(variable.shape) else engine.read(variable)

    def write_rows(variable: Any, value: tf.Tensor) -> None:
        if len(variable.shape):
            value_of(variable).scatter_update(tf.IndexedSlices(value, rows))
        else:  # of NovoGrad, for the table as a whole
            engine.assign(variable, value)

    if optimizer.sparse_step == "undecayed":
        scalars = scalars._replace(shrink=0.0)
    touched = engine.read_state(tracked, read_rows)
    new = engine.stepped(optimizer, scalars, tracked, touched, values, _places(values, rows))
    if optimizer.sparse_step == "moments":
        moments = engine.read_state(tracked).moments
        resting = plain.decayed_without_gradient(
            engine.arrays,
            engine.cast,
            accumulator_dtype(tracked.variable),
            moments,
            engine.scalars_for(tracked, scalars),
            engine.position_of_moments(tracked, moments.v if moments.m is None else moments.m),
        )
        for slot, moment in zip(tracked.moments, resting, strict=True):
            if slot is not None:
                engine.assign(slot, moment)
    elif optimizer.sparse_step == "all":
        nothing = tf.zeros(shape(tracked.variable), values.dtype)
        engine.update_variable(optimizer, scalars._replace(shrink=0.0), tracked, nothing)
    engine.write_state(tracked, new, write_rows)


def densified(gradient: tf.IndexedSlices, variable: Any) -> tf.Tensor:
    """A sparse gradient as a dense one."""
    values, rows = summed_duplicates(gradient)
    return tf.math.unsorted_segment_sum(values, rows, shape(variable)[0])


def _places(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The places in a table of the numbers of some of its rows."""
    of_row = tf.reduce_prod(tf.shape(values)[1:])
    within = tf.reshape(tf.range(of_row), tf.shape(values)[1:])
    first = tf.cast(rows, tf.int32) * of_row
    return tf.reshape(first, [-1, *[1] * (values.shape.rank - 1)]) + within


def summed_duplicates(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """The values of a sparse gradient, those of a row summed, and the rows."""
    rows, positions = tf.unique(gradient.indices)
    return tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows)), rows


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
