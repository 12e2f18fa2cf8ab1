"""The optimizer's state while a ``fit`` of Keras holds it outside of the variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from surefoot.engines import plain
from surefoot.engines.callers import calling_frames, calling_objects
from surefoot.engines.contract import SteppedOptimizer
from surefoot.rule.update import Array
from surefoot.variables.keras_optimizer import with_inner_optimizers
from surefoot.variables.variable import is_detached


@contextlib.contextmanager
def state_scope(optimizer: SteppedOptimizer) -> Iterator[bool]:
    """The values in the step of the trainer that has taken them out of the variables.

    Where a function is traced that does not have the state among its arguments, such as the
    evaluation of a model, it is read whenever that function runs: as a constant it would stay
    what it is now.
    """
    mapping = _values_in_step(optimizer)
    if not mapping and isinstance(jnp.zeros(()), jax.core.Tracer):
        read = [v for part in with_inner_optimizers(optimizer) for v in _read_by_rates(part)]
        mapping = [(v, _read_when_run(v)) for v in read if not _is_known(v)]
    with keras.StatelessScope(mapping) if mapping else contextlib.nullcontext():
        yield isinstance(optimizer._iterations.value, jax.core.Tracer)


def _values_in_step(optimizer: SteppedOptimizer) -> list[tuple[Any, Array]]:
    """What stands for the variables in the step of a running ``fit``, if it knows them."""
    counter = optimizer._iterations
    if counter._value is not None or _is_known(counter):
        return []
    for names in (frame.f_locals for frame in calling_frames()):
        values = names.get("optimizer_variables")
        known = getattr(getattr(names.get("self"), "optimizer", None), "variables", ())
        if values is not None and any(v is counter for v in known):
            return list(zip(known, values, strict=True))
    reattach(counter)
    if is_detached(counter):
        raise RuntimeError(
            "The step of this training does not tell the optimizer's state: a `train_step` of your "
            "own has to keep it in a variable named `optimizer_variables`, as Keras's does."
        )
    return []


def _read_by_rates(optimizer: Any) -> list[Any]:
    """The variables that a learning rate depends on."""
    hyperparameters = getattr(optimizer, "hyperparameters", None)
    candidates = (
        optimizer._iterations,
        optimizer._learning_rate,
        getattr(hyperparameters, "variable", None),
    )
    return [v for v in candidates if isinstance(v, keras.Variable)]


def _is_known(variable: Any) -> bool:
    """Whether a `keras.StatelessScope` has a value of the variable."""
    with keras.StatelessScope(initialize_variables=False) as probe:
        scope = probe.original_scope
    return scope is not None and scope.get_current_value(variable) is not None


def _read_when_run(variable: Any) -> Array:
    shape = jax.ShapeDtypeStruct(variable.shape, variable.dtype)
    return jax.pure_callback(lambda: np.asarray(variable._value), shape)


def reattach(variable: Any) -> None:
    """Ask the trainer whose ``fit`` is among the callers to put its state back.

    Keras's trainer does so by itself only after an epoch, but picks up what a
    callback changes once it has.
    """
    del variable
    if plain.is_stateless():
        return  # inside the trainer's own step, which knows the value
    for caller in calling_objects():
        if callable(getattr(type(caller), "jax_state_sync", None)):
            caller.jax_state_sync()
            return
