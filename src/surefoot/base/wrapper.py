"""The base of optimizers that wrap another one, whose state, rate and weights count as theirs."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from surefoot.arguments import checks, keywords
from surefoot.base import inner_optimizers
from surefoot.base.composite import CompositeOptimizer
from surefoot.base.optimizer import BaseOptimizer
from surefoot.legacy_api.notebooks import tensor
from surefoot.state.attachment import reattach, require_attached


class WrappingOptimizer(CompositeOptimizer):
    """An optimizer around an ``inner_optimizer``, one of this library or of Keras."""

    inner_optimizer: Any

    def __init__(
        self, optimizer: Any, name: str, hyperparameters: dict[str, Any], options: dict[str, Any]
    ):
        inner = inner_optimizers.deserialized_optimizer(optimizer)
        for argument in ("learning_rate", "lr", "decay", "weight_decay"):
            if argument in options:
                raise ValueError(
                    f"`{argument}` is the inner optimizer's; set it there. "
                    f"Received: {argument}={options[argument]!r}"
                )
        checks.check_name(name)
        declared = self.declared_hyperparameters()
        accepted = {h.name: h.accept(hyperparameters[h.name]) for h in declared}
        handed_on = options.pop("nonfinite", "propagate"), options.pop("shard_state", False)
        base_arguments = keywords.take_base_arguments(type(self), options)
        super().__init__(0.0, name, accepted, base_arguments, *handed_on)
        self.inner_optimizer = inner

    def parts(self) -> dict[str, Any]:
        """The inner optimizer; none while Keras's constructor runs."""
        inner = getattr(self, "inner_optimizer", None)
        return {} if inner is None else {"inner.": inner}

    def build_inner(self, variables: list[Any]) -> None:
        """Build the inner optimizer for ``variables``, if that has not been done."""
        inner = self.inner_optimizer
        if not inner.built:
            inner.build(variables)
            inner_optimizers.restore_pending(inner)
        # Keras's `SwapEMAWeights` looks for the average in the inner one of the optimizer that a
        # model has: here or there. Past TensorFlow's tracking, which would save it twice.
        for one, other in ((self, inner), (inner, self)):
            average = one.__dict__.get("_model_variables_moving_average")
            if average is not None:
                other.__dict__.setdefault("_model_variables_moving_average", average)

    def widens_gradients(self) -> bool:
        """Whether the inner optimizer does."""
        inner = self.inner_optimizer
        return isinstance(inner, BaseOptimizer) and inner.widens_gradients()

    # The learning rate and weight decay.

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate.

        Raises:
            AttributeError: If the inner optimizer has none, as `keras.optimizers.MultiOptimizer`.
        """
        try:
            rate = self.inner_optimizer.learning_rate
        except AttributeError as error:
            if self.__dict__.get("_is_stepping"):
                return self._learning_rate
            raise AttributeError(
                f"The learning rate of the optimizer '{self.name}' is its inner optimizer's, and "
                f"{type(self.inner_optimizer).__name__} has none of its own. Ask its parts: "
                f"`optimizer.inner_optimizer.optimizers[0].learning_rate`. ({error})"
            ) from error
        reattach(rate)
        return rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        inner = self.inner_optimizer
        if isinstance(inner, BaseOptimizer):
            inner.learning_rate = value
            return
        require_attached(inner._iterations, "the learning rate")
        is_number = isinstance(inner._learning_rate, keras.Variable) and not callable(value)
        with (
            contextlib.nullcontext()
            if is_number
            else self.changing_structure(f"learning_rate={value!r}")
        ):
            inner.learning_rate = value

    def effective_learning_rate(self, step: Any = None) -> Any:
        """The inner optimizer's; see `RectifiedAdam`.

        Raises:
            AttributeError: If the inner optimizer has no such method.
        """
        return self.inner_optimizer.effective_learning_rate(step)

    def decayed_rate(self) -> Any:
        """The inner optimizer's."""
        inner = self.inner_optimizer
        return inner.decayed_rate() if isinstance(inner, BaseOptimizer) else inner.learning_rate

    @property
    def _optimizer(self) -> Any:
        """The original's name of ``inner_optimizer``."""
        return self.inner_optimizer

    def _get_hyper(self, name: str, dtype: Any = None) -> Any:
        inner = self.inner_optimizer
        if name in self._own_names():
            return super()._get_hyper(name, dtype)
        if isinstance(inner, BaseOptimizer):
            return inner._get_hyper(name, dtype)
        return getattr(inner, name) if dtype is None else tensor(getattr(inner, name), dtype)

    def _set_hyper(self, name: str, value: Any) -> None:
        inner = self.inner_optimizer
        if name in self._own_names():
            super()._set_hyper(name, value)
        elif isinstance(inner, BaseOptimizer):
            inner._set_hyper(name, value)
        else:
            getattr(inner, name)  # an error, where it has none
            setattr(inner, name, value)

    def _own_names(self) -> set[str]:
        return {hyperparameter.name for hyperparameter in self.declared_hyperparameters()}

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """The inner optimizer's."""
        del learning_rate
        inner = self.inner_optimizer
        rate = getattr(inner, "learning_rate", float("nan"))  # a MultiOptimizer has no one rate
        is_ours = isinstance(inner, BaseOptimizer)
        return inner.step_rates(rate) if is_ours else {"effective_learning_rate": rate}

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Choose the variables that the inner optimizer's weight decay leaves alone."""
        with self.changing_structure("a call of `exclude_from_weight_decay`"):
            self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    # The step.

    def scale_loss(self, loss: Any) -> Any:
        """Scale ``loss`` as both optimizers ask for; each takes it out of its gradients again."""
        return self.inner_optimizer.scale_loss(super().scale_loss(loss))

    # State.

    def surplus_weights(self) -> int:
        """The inner optimizer's."""
        inner = self.inner_optimizer
        return inner.surplus_weights() if isinstance(inner, BaseOptimizer) else 0

    def inner_slot(self, variable: Any, slot_name: str) -> Any:
        """A slot of the inner optimizer, or of the one inside that, or None."""
        inner = self.inner_optimizer
        if not isinstance(inner, BaseOptimizer):
            return None
        found = inner.slots.of(variable).get(slot_name)
        deeper = found is None and isinstance(inner, WrappingOptimizer)
        return inner.inner_slot(variable, slot_name) if deeper else found

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return super().get_config() | {"optimizer": inner}

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
        return {"optimizer": "RectifiedAdam"}
