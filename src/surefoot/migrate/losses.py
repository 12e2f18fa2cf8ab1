"""Losses and a metric whose Keras 3 classes forget an argument when they are saved."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="surefoot")
class Huber(keras.losses.Huber):
    """`keras.losses.Huber`, saved with its ``delta``.

    The config of Keras's own (until 3.15 at least) leaves it out, so that a model which is saved
    and loaded trains on with a delta of 1.

    Args:
        delta: Where the loss turns from a square to a line. Defaults to 1.
        **kwargs: As `keras.losses.Huber`.

    Example:
        >>> Huber(delta=0.5).get_config()["delta"]
        0.5
    """

    def __init__(self, delta: float = 1.0, **kwargs: Any):
        super().__init__(delta=delta, **kwargs)
        self.delta = delta

    def get_config(self) -> dict[str, Any]:
        """The arguments, with ``delta``."""
        return {**super().get_config(), "delta": self.delta}


class _SavedWithAxis:
    """What is computed along an axis that Keras's own config leaves out."""

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(axis=axis, **kwargs)  # type: ignore[call-arg]
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """The arguments, with ``axis``."""
        return {**super().get_config(), "axis": self.axis}  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="surefoot")
class CosineSimilarity(_SavedWithAxis, keras.losses.CosineSimilarity):
    """`keras.losses.CosineSimilarity`, saved with its ``axis``, which Keras's own leaves out.

    Args:
        axis: The axis of the vectors. Defaults to -1.
        **kwargs: As `keras.losses.CosineSimilarity`.

    Example:
        >>> CosineSimilarity(axis=1).get_config()["axis"]
        1
    """


@keras.saving.register_keras_serializable(package="surefoot")
class CosineSimilarityMetric(_SavedWithAxis, keras.metrics.CosineSimilarity):
    """`keras.metrics.CosineSimilarity`, saved with its ``axis``, which Keras's own leaves out.

    Args:
        axis: The axis of the vectors. Defaults to -1.
        **kwargs: As `keras.metrics.CosineSimilarity`.

    Example:
        >>> CosineSimilarityMetric(axis=1).get_config()["axis"]
        1
    """


SAVED_WHOLE: dict[type, type] = {
    keras.losses.Huber: Huber,
    keras.losses.CosineSimilarity: CosineSimilarity,
    keras.metrics.CosineSimilarity: CosineSimilarityMetric,
}


def saved_whole(made: Any, arguments: dict[str, Any]) -> Any:
    """A loss or metric made of these arguments, or one that saves what it would forget of them."""
    whole = SAVED_WHOLE.get(type(made))
    if whole is None:
        return made
    saving = whole(**arguments)
    given, default = saving.get_config(), whole().get_config()
    forgotten = given.keys() - made.get_config().keys()
    return saving if any(given[k] != default[k] for k in forgotten) else made
