"""Batch normalization as TensorFlow's fused kernel computed it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="surefoot")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with the moving variance of tf.keras 2.

    For images (inputs of rank 4), tf.keras 2 used a fused kernel that updated the moving
    variance with the *unbiased* variance of each batch. It is n / (n - 1) times the variance
    that Keras 3 uses, where n is the number of values per channel. Outputs in training and
    gradients are the same. For other ranks this is Keras's own layer.

    To use Keras's own layer in a migrated model, pass
    `custom_objects={"BatchNormalization": keras.layers.BatchNormalization}`.

    Args:
        **kwargs: As `keras.layers.BatchNormalization`.

    Example:
        >>> import numpy as np
        >>> layer = FusedBatchNormalization(momentum=0.0)
        >>> images = np.arange(4.0).reshape(1, 2, 2, 1)
        >>> _ = layer(images, training=True)
        >>> round(float(keras.ops.convert_to_numpy(layer.moving_variance)[0]), 4)
        1.6667
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalizes; see the class."""
        if not (training and self.trainable and len(inputs.shape) == 4 and mask is None):
            return super().call(inputs, training=training, mask=mask)
        before = ops.copy(self.moving_variance.value)
        outputs = super().call(inputs, training=training, mask=mask)
        shape = ops.shape(inputs)
        count = 1
        for axis in self._reduction_axes:
            count = count * shape[axis]
        n = ops.cast(count, self.moving_variance.dtype)
        unbiased = n / ops.maximum(n - 1.0, 1.0)
        kept = self.momentum * before
        self.moving_variance.assign(kept + unbiased * (self.moving_variance.value - kept))
        return outputs
