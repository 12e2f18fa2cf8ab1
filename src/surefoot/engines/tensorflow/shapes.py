"""Shapes that TensorFlow leaves open: of a variable that may be given others, and in a graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from surefoot.variables.variable import value_of


def shape(variable: Any) -> tuple[int, ...]:
    """The present shape of a variable, which may be declared with an open one."""
    if is_open(variable):
        with tf.init_scope():
            return tuple(tf.raw_ops.VariableShape(input=value_of(variable).handle).numpy().tolist())
    return tuple(variable.shape)


def is_open(variable: Any) -> bool:
    """Whether values of other shapes can be assigned to a `tf.Variable`."""
    return not value_of(variable).shape.is_fully_defined()


def fitting(gradient: Any, variable: Any) -> Any:
    """A dense gradient of a graph that has to have the variable's shape when that runs."""
    if isinstance(gradient, tf.Tensor) and not gradient.shape.is_fully_defined():
        return tf.ensure_shape(gradient, shape(variable))
    return gradient
