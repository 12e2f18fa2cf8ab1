"""Optimizers that update an embedding's table as TensorFlow 2's did, on every backend.

In TensorFlow the gradient of an embedding is sparse: a list of rows, one for every token of
the batch. tf.keras 2 summed the rows of repeated tokens, and some of its optimizers then
updated only the rows in the list. Keras 3 differs in both: on TensorFlow its own classes
square the rows before they are summed, and on JAX and PyTorch gradients are dense, with a row
of zeros for each token that is not in the batch. A migrated model with embeddings therefore
gets one of these classes; any other model gets the plain class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

import surefoot
from surefoot.migrate.optimizers.legacy_rmsprop import LegacyRMSprop


class SummedRows:
    """Mixin for Keras's optimizers: sums the rows of a sparse gradient first."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        super().update_step(summed(gradient), variable, learning_rate)  # type: ignore[misc]


class TouchedRows:
    """Mixin: in the named tables, only rows with a gradient are updated.

    Args:
        tables: Layer and name of the embedding tables, such as `"embedding/embeddings"`.
        **kwargs: The arguments of the optimizer class.
    """

    def __init__(self, *args: Any, tables: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tables = tuple(tables)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads."""
        return {**super().get_config(), "tables": list(self._tables)}  # type: ignore[misc]


class TouchedRowsAndSlots(TouchedRows):
    """Mixin for Keras's optimizers: slots of rows without a gradient do not change, either."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        # On TensorFlow, Keras passes the tf.Variable inside its own variable.
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
    """Mixin for surefoot's optimizers: all moments decay, only rows with a gradient change."""

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        untouched = [
            (name, variable, state, ops.copy(state.value), touched_rows(gradient))
            for gradient, variable in zip(grads, trainable_variables, strict=True)
            if table_name(variable) in self._tables and not is_list_of_rows(gradient)
            for name, state in self._moved_states(variable)
        ]
        super()._backend_update_step(grads, trainable_variables, learning_rate)  # type: ignore[misc]
        for name, variable, state, old, touched in untouched:
            rest = self._at_rest(name, variable, old, state.value)
            state.assign(ops.where(touched, state.value, rest))

    def _moved_states(self, variable: Any) -> Iterator[tuple[str, Any]]:
        """What a dense gradient changes in rows where it is zero, by name."""
        yield "variable", variable
        if "master" in self.get_slot_names():  # type: ignore[attr-defined]
            yield "master", self.get_slot(variable, "master")  # type: ignore[attr-defined]

    def _at_rest(self, name: str, variable: Any, old: Any, new: Any) -> Any:
        """What it should be there, given what it was, and what it became."""
        del name, variable, new
        return old

    def _number(self, name: str, like: Any) -> Any:
        """A hyperparameter of the step, by the name under which it is kept, in a dtype."""
        numbers = self.hyperparameters.in_step(self.iterations)  # type: ignore[attr-defined]
        return ops.cast(ops.convert_to_tensor(numbers[name]), like.dtype)


def is_list_of_rows(gradient: Any) -> bool:
    """Whether a gradient is TensorFlow's IndexedSlices."""
    return keras.backend.backend() == "tensorflow" and hasattr(gradient, "indices")


def summed(gradient: Any) -> Any:
    """A dense gradient, in which the rows of repeated tokens are summed."""
    if not is_list_of_rows(gradient):
        return gradient
    return ops.segment_sum(gradient.values, gradient.indices, num_segments=gradient.dense_shape[0])


def touched_rows(gradient: Any) -> Any:
    """Whether each row has a gradient, in a shape that broadcasts with the table."""
    if is_list_of_rows(gradient):
        ones = ops.ones_like(gradient.indices)
        counts = ops.segment_sum(ones, gradient.indices, num_segments=gradient.dense_shape[0])
        return ops.reshape(counts > 0, (-1, *(1 for _ in gradient.values.shape[1:])))
    return ops.any(gradient != 0, axis=tuple(range(1, len(gradient.shape))), keepdims=True)


def register(cls: type) -> type:
    """Registers a class with Keras's saving."""
    return keras.saving.register_keras_serializable(package="surefoot")(cls)


@register
class TableAdam(SummedRows, keras.optimizers.Adam):
    """`keras.optimizers.Adam` that sums an embedding's repeated rows, as tf.keras 2 did."""


@register
class TableKerasNadam(SummedRows, keras.optimizers.Nadam):
    """`keras.optimizers.Nadam` that sums an embedding's repeated rows."""


@register
class TableRMSprop(SummedRows, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` that sums an embedding's repeated rows."""


@register
class TableLegacyRMSprop(SummedRows, LegacyRMSprop):
    """`LegacyRMSprop` that sums an embedding's repeated rows."""


@register
class TableMomentumRMSprop(TouchedRowsAndSlots, keras.optimizers.RMSprop):
    """RMSprop with momentum as `tf.keras.optimizers.legacy` applied it to embeddings."""


@register
class TableMomentumSGD(TouchedRowsAndSlots, keras.optimizers.SGD):
    """SGD with momentum as `tf.keras.optimizers.legacy` applied it to embeddings."""


@register
class TableRectifiedAdam(TouchedRowsOfTable, surefoot.RectifiedAdam):
    """`surefoot.RectifiedAdam` that updates only rows with a gradient, on every backend."""


@register
class TableNadam(TouchedRowsOfTable, surefoot.Nadam):
    """`surefoot.Nadam` that updates only rows with a gradient, on every backend."""


def table_name(variable: Any) -> str:
    """The end of a variable's path, which does not depend on where its layer was built."""
    return "/".join(variable.path.split("/")[-2:])


def find_tables(model: Any) -> list[str]:
    """Names of a model's embedding tables that had sparse gradients in tf.keras 2."""
    found = []
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        # A regularizer's gradient is dense, and so was the sum.
        if isinstance(layer, keras.layers.Embedding) and layer.embeddings_regularizer is None:
            found.append(table_name(layer.embeddings))
        held = dict(vars(layer))
        for value in (*held.values(), *(held.get("_modules") or {}).values()):
            several = value if isinstance(value, list | tuple) else [value]
            waiting += [inner for inner in several if isinstance(inner, keras.layers.Layer)]
        waiting += getattr(layer, "layers", None) or []
    return sorted(found)
