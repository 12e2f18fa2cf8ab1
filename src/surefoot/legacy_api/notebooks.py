"""Private methods of optimizers that notebooks of 2020 call."""

from __future__ import annotations

from typing import Any

import keras

from surefoot import engines
from surefoot.legacy_api import tf_keras
from surefoot.state.hyperparameters import HyperparameterSet


class NotebookMethods:
    """The private methods of `OptimizerV2` that other code calls."""

    hyperparameters: HyperparameterSet
    iterations: Any
    learning_rate: Any
    _learning_rate: Any

    def _decayed_lr(self, var_dtype: Any = None) -> Any:
        """The learning rate of the next update as a tensor, without warmup, as in the originals.

        `effective_learning_rate` includes warmup and rectification.
        """
        with engines.active().state_scope(self):
            return tensor(self.decayed_rate(), var_dtype)

    def decayed_rate(self) -> Any:
        """The learning rate of the next update, with ``decay`` but without warmup."""
        return self.learning_rate

    def _get_hyper(self, name: str, dtype: Any = None) -> Any:
        """A hyperparameter, as a tensor if ``dtype`` is given; a schedule as it is."""
        self._check_hyper(name)
        values = self.hyperparameters.values | {"learning_rate": self._learning_rate}
        if isinstance(values[name], keras.optimizers.schedules.LearningRateSchedule):
            return values[name]
        if dtype is None:
            return getattr(self, name)
        with engines.active().state_scope(self):
            in_step = self.hyperparameters.in_step(self.iterations)
            for hyperparameter in self.hyperparameters.declared:
                if hyperparameter.name == name:
                    return tensor(hyperparameter.decode(in_step[hyperparameter.stored_name]), dtype)
            return tensor(self.learning_rate, dtype)

    @property
    def _weights(self) -> Any:
        """Does not exist; tf_keras reads it when a model is compiled, which is an error."""
        tf_keras.refuse_tf_keras(self)
        raise AttributeError(f"{type(self).__name__} has no `_weights`; use `variables`")

    def _set_hyper(self, name: str, value: Any) -> None:
        """Set a hyperparameter."""
        self._check_hyper(name)
        setattr(self, name, value)

    def _check_hyper(self, name: str) -> None:
        names = ["learning_rate", *(h.name for h in self.hyperparameters.declared)]
        if name not in names:
            raise AttributeError(
                f"{type(self).__name__} has the hyperparameters {', '.join(names)}. "
                f"Received: {name!r}"
            )


def tensor(value: Any, dtype: Any) -> Any:
    """``value`` as a tensor of a dtype, Keras's or the backend's own."""
    return keras.ops.cast(value, keras.backend.standardize_dtype(dtype))
