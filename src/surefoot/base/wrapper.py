"""The base of optimizers that wrap another one, whose state, rate and weights count as theirs."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from surefoot.base import inner_optimizers
from surefoot.base.optimizer import BaseOptimizer
from surefoot.legacy_api.notebooks import tensor
from surefoot.legacy_api.weight_lists import CallableList, WeightEntry
from surefoot.state.attachment import reattach, require_attached
from surefoot.state.named_state import State

_INNER = "inner."


class WrappingOptimizer(BaseOptimizer):
    """An optimizer around an ``inner_optimizer``, one of this library or of Keras."""

    inner_optimizer: Any

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

    def inner_slot(self, variable: Any, slot_name: str) -> Any:
        """A slot of the inner optimizer, or None."""
        inner = self.inner_optimizer
        if not isinstance(inner, BaseOptimizer):
            return None
        return inner.slots.of(variable).get(slot_name)

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


def inner_may_stay(inner: Any) -> bool:
    """Whether an update of an inner optimizer may change no weights."""
    return not (isinstance(inner, BaseOptimizer) and inner.always_moves())


def apply_unconstrained(optimizer: Any, grads: list[Any], variables: list[Any]) -> None:
    """Run the update of an optimizer inside of a wrapper, which has prepared ``grads``.

    The constraints of variables are left to the wrapper, which moves them once
    more. An optimizer with an ``apply`` of its own is asked to do what it does.
    """
    is_ours = isinstance(optimizer, BaseOptimizer)
    if not is_ours and type(optimizer).apply is not keras.optimizers.Optimizer.apply:
        # Of all variables, which Keras's `MultiOptimizer` insists on.
        given = {id(v): g for g, v in zip(grads, variables, strict=True)}
        known = optimizer._trainable_variables
        grads = [given.get(id(v)) for v in known]
        if keras.backend.backend() != "jax":
            optimizer.apply(grads, known)
            return
        # A `LossScaleOptimizer` has branches, which on JAX may only return what they compute.
        state = [*known, *optimizer.variables]
        values = [v.value for v in state]
        new = optimizer.stateless_apply(values[len(known) :], grads, values[: len(known)])
        for variable, value in zip(state, [*new[0], *new[1]], strict=True):
            variable.assign(value)
        return

    def update() -> None:
        scale = optimizer.loss_scale_factor
        scaled = grads if scale is None else [g / scale for g in grads]
        optimizer._backend_apply_gradients(scaled, variables)
        optimizer._iterations.assign_add(1)

    if is_ours:
        optimizer.apply_if_finite(grads, variables, update)
    else:
        update()


def _split(state: State) -> tuple[State, State]:
    inner = {k.removeprefix(_INNER): v for k, v in state.items() if k.startswith(_INNER)}
    return {k: v for k, v in state.items() if not k.startswith(_INNER)}, inner
