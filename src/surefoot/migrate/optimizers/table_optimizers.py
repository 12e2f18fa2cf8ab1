"""Optimizers that treat an embedding's table as TensorFlow 2's did, on every backend.

In TensorFlow the gradient of an embedding is a list of rows, one for every token of the
batch. tf.keras 2 added up the rows of repeated tokens, and some of its optimizers then
moved only the rows there were. Keras 3 differs in both: on TensorFlow its own classes
square the rows before they are added up, and on JAX and PyTorch gradients are whole tables,
where a row that no token touched is a row of zeros. A migrated model with embeddings
therefore gets one of these; any other model gets the plain class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

import surefoot
from surefoot.migrate.optimizers.legacy_rmsprop import LegacyRMSprop


class SummedRows:
    """Mixin for Keras's optimizers: adds up a table's rows before anything else."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        super().update_step(summed(gradient), variable, learning_rate)  # type: ignore[misc]


class TouchedRows:
    """Mixin: of the named tables, only rows with a gradient are moved.

    Args:
        tables: Layer and name of the variables that are tables of rows, such as
            `"embedding/embeddings"`.
        **kwargs: As the class mixed in.
    """

    def __init__(self, *args: Any, tables: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tables = tuple(tables)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads."""
        return {**super().get_config(), "tables": list(self._tables)}  # type: ignore[misc]


class TouchedRowsOfSlotsToo(TouchedRows):
    """Mixin for Keras's optimizers: of the named tables, slots of other rows rest as well."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        # On TensorFlow, Keras hands its own variable's inner one to this method.
        table = self._trainable_variables[index]  # type: ignore[attr-defined]
        if table_name(table) not in self._tables:
            super().update_step(summed(gradient), variable, learning_rate)  # type: ignore[misc]
            return
        touched = touched_rows(gradient)
        slots = [
            slots[index]
            for name in ("_velocities", "_momentums", "_average_gradients", "momentums")
            if (slots := getattr(self, name, None))
        ]
        before = [ops.copy(state.value) for state in (table, *slots)]
        super().update_step(summed(gradient), variable, learning_rate)  # type: ignore[misc]
        for state, old in zip((table, *slots), before, strict=True):
            state.assign(ops.where(touched, state.value, old))


class TouchedRowsOfTable(TouchedRows):
    """Mixin for surefoot's optimizers: moments decay everywhere, other rows do not move."""

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        resting = [
            (state, ops.copy(state.value), touched_rows(gradient))
            for gradient, variable in zip(grads, trainable_variables, strict=True)
            if table_name(variable) in self._tables and not is_list_of_rows(gradient)
            for state in self._moved_states(variable)
        ]
        super()._backend_update_step(grads, trainable_variables, learning_rate)  # type: ignore[misc]
        for state, old, touched in resting:
            state.assign(ops.where(touched, state.value, old))

    def _moved_states(self, variable: Any) -> Iterator[Any]:
        yield variable
        if "master" in self.get_slot_names():  # type: ignore[attr-defined]
            yield self.get_slot(variable, "master")  # type: ignore[attr-defined]


def is_list_of_rows(gradient: Any) -> bool:
    """Whether a gradient is TensorFlow's IndexedSlices, which these optimizers know anyway."""
    return keras.backend.backend() == "tensorflow" and hasattr(gradient, "indices")


def summed(gradient: Any) -> Any:
    """A gradient as a whole table, the rows of repeated tokens added up."""
    if not is_list_of_rows(gradient):
        return gradient
    return ops.segment_sum(gradient.values, gradient.indices, num_segments=gradient.dense_shape[0])


def touched_rows(gradient: Any) -> Any:
    """Which rows of a table a gradient touches, shaped to multiply the table."""
    if is_list_of_rows(gradient):
        ones = ops.ones_like(gradient.indices)
        counts = ops.segment_sum(ones, gradient.indices, num_segments=gradient.dense_shape[0])
        return ops.reshape(counts > 0, (-1, *(1 for _ in gradient.values.shape[1:])))
    return ops.any(gradient != 0, axis=tuple(range(1, len(gradient.shape))), keepdims=True)


def register(cls: type) -> type:
    """Makes a class known to Keras's saving."""
    return keras.saving.register_keras_serializable(package="surefoot")(cls)


@register
class TableAdam(SummedRows, keras.optimizers.Adam):
    """`keras.optimizers.Adam` that adds up an embedding's repeated rows, as tf.keras 2's."""


@register
class TableKerasNadam(SummedRows, keras.optimizers.Nadam):
    """`keras.optimizers.Nadam` that adds up an embedding's repeated rows."""


@register
class TableRMSprop(SummedRows, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` that adds up an embedding's repeated rows."""


@register
class TableLegacyRMSprop(SummedRows, LegacyRMSprop):
    """`LegacyRMSprop` that adds up an embedding's repeated rows."""


@register
class TableMomentumRMSprop(TouchedRowsOfSlotsToo, keras.optimizers.RMSprop):
    """RMSprop with momentum as `tf.keras.optimizers.legacy` ran it on embeddings."""


@register
class TableMomentumSGD(TouchedRowsOfSlotsToo, keras.optimizers.SGD):
    """SGD with momentum as `tf.keras.optimizers.legacy` ran it on embeddings."""


@register
class TableRectifiedAdam(TouchedRowsOfTable, surefoot.RectifiedAdam):
    """`surefoot.RectifiedAdam` that moves only touched rows, on every backend."""


@register
class TableNadam(TouchedRowsOfTable, surefoot.Nadam):
    """`surefoot.Nadam` that moves only touched rows, on every backend."""


def table_name(variable: Any) -> str:
    """The end of a variable's path that is the same whoever built its layer."""
    return "/".join(variable.path.split("/")[-2:])


def find_tables(model: Any) -> list[str]:
    """Names of the embeddings of a model whose gradients were lists of rows."""
    found = []
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        # A regularizer's gradient is a whole table, and so the sum was one.
        if isinstance(layer, keras.layers.Embedding) and layer.embeddings_regularizer is None:
            found.append(table_name(layer.embeddings))
        held = dict(vars(layer))
        for value in (*held.values(), *(held.get("_modules") or {}).values()):
            several = value if isinstance(value, list | tuple) else [value]
            waiting += [inner for inner in several if isinstance(inner, keras.layers.Layer)]
        waiting += getattr(layer, "layers", None) or []
    return sorted(found)
