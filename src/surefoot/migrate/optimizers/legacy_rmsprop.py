"""RMSprop as tf.keras 2's `optimizers.legacy` computed it without momentum."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="surefoot")
class LegacyRMSprop(keras.optimizers.RMSprop):
    r"""RMSprop with epsilon added to the root, not under the root.

    `tf.keras.optimizers.legacy.RMSprop` without momentum divided by
    :math:`\sqrt{v} + \epsilon`; Keras 3's class divides by :math:`\sqrt{v + \epsilon}`, which
    is up to 30 % less where :math:`v` is as small as :math:`\epsilon`. With momentum, both add
    epsilon under the root, and `keras.optimizers.RMSprop` itself is used.

    Args:
        **kwargs: As `keras.optimizers.RMSprop`, with `momentum` 0.

    Example:
        >>> weight = keras.Variable(1.0)
        >>> optimizer = LegacyRMSprop(learning_rate=0.5, rho=0.0, epsilon=1.0)
        >>> optimizer.apply([ops.array(1.0)], [weight])
        >>> float(ops.convert_to_numpy(weight))  # 1 - 0.5 * 1 / (1 + 1)
        0.75
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("momentum"):
            raise ValueError(
                "With momentum, `keras.optimizers.RMSprop` computes the same as the original. "
                f"Received: momentum={kwargs['momentum']}"
            )
        super().__init__(**kwargs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self._velocities[index]
        # `ops`, not operators: a gradient may be a tf.IndexedSlices.
        squares = ops.multiply(1 - self.rho, ops.square(gradient))
        self.assign(velocity, ops.add(ops.multiply(self.rho, velocity), squares))
        spread = ops.convert_to_tensor(velocity)
        if self.centered:
            average = self._average_gradients[index]
            share = ops.multiply(1 - self.rho, gradient)
            self.assign(average, ops.add(ops.multiply(self.rho, average), share))
            spread = ops.subtract(spread, ops.square(average))
        divisor = ops.add(ops.sqrt(spread), self.epsilon)
        self.assign_sub(variable, ops.divide(ops.multiply(rate, gradient), divisor))
