"""Which `tf.function` a step is traced into, and whether it can be traced again."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

from surefoot.engines.callers import calling_objects, is_trainer
from surefoot.engines.traces import note_trace


def note(optimizer: Any) -> None:
    """Let an optimizer know the function that is being traced, if there is one.

    One that Keras has made belongs to the trainer that calls it, which can make it anew. Any
    other one may be called for as long as its graph is there.
    """
    if not tf.inside_function():
        return
    callers = calling_objects()
    function = next(
        (c for c in callers if isinstance(c, tf.types.experimental.PolymorphicFunction)), None
    )
    python_function = getattr(function, "python_function", None)
    module, name = (getattr(python_function, n, "") for n in ("__module__", "__qualname__"))
    # Keras makes its functions of nested ones. One of a method, such as `Model.train_step`, is the
    # user's.
    of_keras = str(module).startswith("keras.") and "<locals>" in name
    trainer = next(filter(is_trainer, callers), None) if of_keras else None
    graphs = []
    graph = tf.compat.v1.get_default_graph()
    while hasattr(graph, "outer_graph"):  # that of a condition or a loop is in the function's
        graphs.append(weakref.ref(graph))
        graph = graph.outer_graph
    note_trace(optimizer, trainer, lambda: any(graph() is not None for graph in graphs))
