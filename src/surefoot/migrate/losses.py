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


@keras.saving.register_keras_serializable(package="surefoot")
class CosineSimilarity(keras.losses.CosineSimilarity):
    """`keras.losses.CosineSimilarity`, saved with its ``axis``, which Keras's own leaves out.

    Args:
        axis: The axis of the vectors. Defaults to -1.
        **kwargs: As `keras.losses.CosineSimilarity`.

    Example:
        >>> CosineSimilarity(axis=1).get_config()["axis"]
        1
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(axis=axis, **kwargs)
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """The arguments, with ``axis``."""
        return {**super().get_config(), "axis": self.axis}


@keras.saving.register_keras_serializable(package="surefoot")
class CosineSimilarityMetric(keras.metrics.CosineSimilarity):
    """`keras.metrics.CosineSimilarity`, saved with its ``axis``, which Keras's own leaves out.

    Args:
        axis: The axis of the vectors. Defaults to -1.
        **kwargs: As `keras.metrics.CosineSimilarity`.

    Example:
        >>> CosineSimilarityMetric(axis=1).get_config()["axis"]
        1
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(axis=axis, **kwargs)
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """The arguments, with ``axis``."""
        return {**super().get_config(), "axis": self.axis}


SAVED_WHOLE: dict[type, type] = {
    keras.losses.Huber: Huber,
    keras.losses.CosineSimilarity: CosineSimilarity,
    keras.metrics.CosineSimilarity: CosineSimilarityMetric,
}


def saved_whole(cls: type, arguments: dict[str, Any]) -> type:
    """The class that saves all of these arguments: Keras's own if it does."""
    whole = SAVED_WHOLE.get(cls)
    if whole is None:
        return cls
    config = cls(**arguments).get_config()
    default = whole().get_config()
    lost = [k for k, v in arguments.items() if k not in config and v != default.get(k, v)]
    return whole if lost else cls
