"""Callbacks of TensorFlow Addons that optimizers here need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from surefoot.arguments import checks
from surefoot.base.averaging import AveragingOptimizer
from surefoot.state.named_state import as_array
from surefoot.variables.keras_optimizer import with_inner_optimizers

__all__ = ["AverageModelCheckpoint"]


class AverageModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """A `keras.callbacks.ModelCheckpoint` that saves the averages of the weights.

    It is for models that train with `MovingAverage` or `SWA`, as
    `tfa.callbacks.AverageModelCheckpoint`. What it monitors is measured with the weights
    themselves, as there.

    Example:
        >>> import keras, surefoot
        >>> checkpoint = surefoot.callbacks.AverageModelCheckpoint(False, "average.keras")
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(surefoot.MovingAverage("sgd"), loss="mse")
        >>> checkpoint.set_model(model)  # model.fit(..., callbacks=[checkpoint]) does it

    Args:
        update_weights: Whether the model keeps the averages as its weights after
            each save and trains on from there. Otherwise it gets its weights back.
        filepath: See `keras.callbacks.ModelCheckpoint`, as all that follow.
        monitor: Defaults to ``"val_loss"``.
        verbose: Defaults to 0.
        save_best_only: Defaults to False.
        save_weights_only: Defaults to False.
        mode: Defaults to ``"auto"``.
        save_freq: Defaults to ``"epoch"``.
        **kwargs: Further arguments of `keras.callbacks.ModelCheckpoint`.

    Raises:
        TypeError: If ``update_weights`` is neither True nor False, or the model's
            optimizer does not average.
        ValueError: If `keras.callbacks.ModelCheckpoint` does not accept an argument.
    """

    def __init__(
        self,
        update_weights: bool,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        **kwargs: Any,
    ):
        self.update_weights = checks.check_flag("update_weights", update_weights)
        super().__init__(
            filepath,
            monitor,
            verbose,
            save_best_only,
            save_weights_only,
            mode,
            save_freq,
            **kwargs,
        )

    def set_model(self, model: Any) -> None:
        """Take the model of a ``fit``.

        Raises:
            TypeError: If its optimizer neither is nor contains one that averages.
        """
        self._averaging(model)
        super().set_model(model)

    def _averaging(self, model: Any) -> AveragingOptimizer:
        for optimizer in with_inner_optimizers(model.optimizer):
            if isinstance(optimizer, AveragingOptimizer):
                return optimizer
        raise TypeError(
            "AverageModelCheckpoint is only used when training with MovingAverage or SWA. "
            f"Received: a model with the optimizer {type(model.optimizer).__name__}"
        )

    def _save_model(self, *args: Any, **kwargs: Any) -> None:
        model = self.model
        weights = list(model.trainable_weights)
        own = [] if self.update_weights else [as_array(variable) for variable in weights]
        self._averaging(model).assign_average_vars(weights)
        try:
            super()._save_model(*args, **kwargs)
        finally:
            for variable, value in zip(weights, own, strict=False):
                variable.assign(value)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from surefoot.legacy_api.heirs import missing_attribute

        raise AttributeError(missing_attribute("surefoot.callbacks", name))
