"""Activations that have the same name in Keras 2 and Keras 3 but different formulas."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="surefoot", name="keras2_hard_sigmoid")
def hard_sigmoid(x: Any) -> Any:
    """Keras 2's hard sigmoid: 0.2 x + 0.5, clipped to [0, 1].

    `keras.activations.hard_sigmoid` of Keras 3 has the slope 1/6. It is the default recurrent
    activation of Keras 2's ConvLSTM layers.

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape.

    Example:
        >>> [round(float(y), 2) for y in hard_sigmoid(ops.array([-3.0, 0.0, 1.0]))]
        [0.0, 0.5, 0.7]
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)
