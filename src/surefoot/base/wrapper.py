"""The base of optimizers that wrap another one, whose state, rate and weights count as theirs."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from surefoot.arguments import checks, keywords
from surefoot.base import inner_optimizers, registration
from surefoot.base.inner_step import inner_may_stay
from surefoot.base.optimizer import BaseOptimizer
from surefoot.legacy_api.notebooks import tensor
from surefoot.legacy_api.weight_lists import CallableList, WeightEntry
from surefoot.state.attachment import reattach, require_attached
from surefoot.state.named_state import State

_INNER = "inner."


class WrappingOptimizer(BaseOptimizer):
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

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: weight decay is the inner optimizer's."""
        del variables

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Choose the variables that the inner optimizer's weight decay leaves alone."""
        with self.changing_structure("a call of `exclude_from_weight_decay`"):
            self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    # The step.

    def scale_loss(self, loss: Any) -> Any:
        """Scale ``loss`` as both optimizers ask for; each takes it out of its gradients again."""
        return self.inner_optimizer.scale_loss(super().scale_loss(loss))

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        # Keras asks for the learning rate and hands it on to where it is not needed.
        self.__dict__["_is_stepping"] = True
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self.__dict__["_is_stepping"] = False

    def rule_state(self) -> list[Any]:
        """The inner optimizer's."""
        inner = self.inner_optimizer
        return inner.rule_state() if isinstance(inner, BaseOptimizer) else []

    def compile_key(self) -> tuple[int, ...]:
        """A number that changes with what compiled steps hold fixed, here or inside."""
        inner = self.inner_optimizer
        inside = inner.compile_key() if isinstance(inner, BaseOptimizer) else ()
        return (*super().compile_key(), *inside)

    def always_moves(self) -> bool:
        """Also the inner optimizer."""
        return super().always_moves() and not inner_may_stay(self.inner_optimizer)

    def only_rule_assigns(self) -> bool:
        """Also in the inner optimizer's update."""
        inner = self.inner_optimizer
        inside = isinstance(inner, BaseOptimizer) and inner.only_rule_assigns()
        return super().only_rule_assigns() and inside

    def raises_nonfinite(self) -> bool:
        """Whether a gradient that is not finite is an error, here or inside."""
        inner = self.inner_optimizer
        inside = isinstance(inner, BaseOptimizer) and inner.raises_nonfinite()
        return super().raises_nonfinite() or inside

    def compiles_eagerly(self) -> bool:
        """As the inner optimizer; one of Keras's may hold Python numbers that change."""
        inner = self.inner_optimizer
        return isinstance(inner, BaseOptimizer) and inner.compiles_eagerly()

    # State.

    @property
    def variables(self) -> CallableList:
        """All state, the inner optimizer's included; called, `weights` as in 2020."""
        inner = getattr(self, "inner_optimizer", None)
        own = list(keras.optimizers.Optimizer.variables.fget(self))
        return CallableList(
            [*own, *(inner.variables if inner is not None else [])], lambda: self.weights
        )

    @property
    def weights(self) -> list[Any]:
        """The originals' variables in their order: iterations, our slots, the inner ones."""
        inner = self.inner_optimizer
        if isinstance(inner, BaseOptimizer):
            return [*super().weights, *inner.weights[1:]]
        return [*super().weights, *(v for _, v in inner_optimizers.weight_entries(inner))]

    def weight_entries(self) -> list[WeightEntry]:
        """The entries of `get_weights`: iterations, our slots, then the inner ones."""
        inner = self.inner_optimizer
        if isinstance(inner, BaseOptimizer):
            return [*super().weight_entries(), *inner.weight_entries()[1:]]
        return [
            *super().weight_entries(),
            *(WeightEntry.of(*item) for item in inner_optimizers.weight_entries(inner)),
        ]

    def surplus_weights(self) -> int:
        """The inner optimizer's."""
        inner = self.inner_optimizer
        return inner.surplus_weights() if isinstance(inner, BaseOptimizer) else 0

    def leading_weights(self) -> list[Any]:
        """None: in the originals, only the iterations come before the slots."""
        return []

    def inner_slot(self, variable: Any, slot_name: str) -> Any:
        """A slot of the inner optimizer, or of the one inside that, or None."""
        inner = self.inner_optimizer
        if not isinstance(inner, BaseOptimizer):
            return None
        found = inner.slots.of(variable).get(slot_name)
        deeper = found is None and isinstance(inner, WrappingOptimizer)
        return inner.inner_slot(variable, slot_name) if deeper else found

    def _named_singles(self) -> dict[str, Any]:
        singles = super()._named_singles()
        singles.pop("learning_rate", None)  # Keras's base class has one; it is not used
        return singles

    def __dir__(self) -> list[str]:
        # Keras's saving looks for parts in `dir()`; the inner optimizer's state
        # is saved with ours, so that a mismatch in either leaves both as they were.
        hidden = ("inner_optimizer", "_optimizer")
        return [name for name in super().__dir__() if name not in hidden]

    def named_state(self) -> State:
        """The whole state as arrays by name, the inner optimizer's included."""
        inner = inner_optimizers.named_state(self.inner_optimizer)
        return super().named_state() | {_INNER + key: value for key, value in inner.items()}

    def mismatches(self, state: State, prefix: str = "") -> list[str]:
        """What of ``state`` is missing, extra or misshapen, in words."""
        own, inner = _split(state)
        problems = super().mismatches(own, prefix)
        return problems + inner_optimizers.mismatches(self.inner_optimizer, inner, prefix + _INNER)

    def restore_pending_slots(self) -> None:
        """Take what was loaded before building, here and inside; see `BaseOptimizer`."""
        super().restore_pending_slots()
        inner_optimizers.restore_pending(self.inner_optimizer)

    def restore(self, state: State) -> None:
        """Take a ``state`` without mismatches."""
        own, inner = _split(state)
        super().restore(own)
        inner_optimizers.restore(self.inner_optimizer, inner)

    # Configuration.

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        config: dict[str, Any] = super().get_config()
        for key in ("learning_rate", "weight_decay"):
            config.pop(key, None)
        config["optimizer"] = keras.saving.serialize_keras_object(self.inner_optimizer)
        for hyperparameter in self.hyperparameters.declared:
            config[hyperparameter.name] = self.hyperparameters.get(hyperparameter)
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create an optimizer from a config: ours, or TensorFlow Addons'.

        Args:
            config: What `get_config` returned, here or in the original. It is not changed.
            custom_objects: Names to objects, for an inner optimizer of the user's.

        Returns:
            An optimizer of this class.

        Raises:
            TypeError: If the config has an unknown entry.
            ValueError: If an entry is out of range.
        """
        with registration.also_known(custom_objects):
            return cls(**cls.default_inner_config() | config)

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
        return {"optimizer": "RectifiedAdam"}


def _split(state: State) -> tuple[State, State]:
    inner = {k.removeprefix(_INNER): v for k, v in state.items() if k.startswith(_INNER)}
    return {k: v for k, v in state.items() if not k.startswith(_INNER)}, inner
