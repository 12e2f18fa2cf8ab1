"""Text vectorization whose shape is told as it is computed."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="surefoot")
class TextVectorization(keras.layers.TextVectorization):
    """`keras.layers.TextVectorization` that tells the shape of what it computes.

    Texts are given in a column, and the layer counts the words of each: a row for each text.
    Keras's own layer (until 3.15 at least) announces one dimension more, so that layers behind
    it, such as `Concatenate`, are built for another shape or refuse it.

    Args:
        **kwargs: As `keras.layers.TextVectorization`.

    Example:
        >>> layer = TextVectorization(output_mode="count", vocabulary=["cat", "dog"])
        >>> layer.compute_output_shape((None, 1))
        (None, 3)
    """

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for a shape of the input."""
        shape = tuple(input_shape)
        if self._output_mode != "int" and self._split is not None and shape[1:] == (1,):
            shape = shape[:1]
        return super().compute_output_shape(shape)
