"""The update of an optimizer that is inside of another one."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.base.optimizer import BaseOptimizer


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
