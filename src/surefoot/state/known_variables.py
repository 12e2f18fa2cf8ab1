"""An optimizer keeps the variables it was built for; others are refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any

from surefoot import engines
from surefoot.engines.callers import calling_objects, is_trainer
from surefoot.variables.keras_optimizer import with_inner_optimizers
from surefoot.variables.variable import variable_path

_ADVICE = (
    "An optimizer keeps the variables it was built for. Make a new optimizer for another set, or "
    "call `optimizer.build(all_variables)` at the start and apply gradients to those that are "
    "trained; `get_slot` of the one and of the other carry state over."
)


def require_known(optimizer: Any, variables: list[Any]) -> None:
    """Refuse variables that a built ``optimizer`` was not built for.

    Raises:
        ValueError: If there is one; names it.
    """
    known = optimizer._trainable_variables
    if not optimizer.built or _are_same(known, variables):
        return
    indices = optimizer._trainable_variables_indices
    unknown = [v for v in variables if optimizer._var_key(v) not in indices]
    if unknown:
        raise ValueError(
            f"The optimizer '{optimizer.name}' was not built for {_listed(unknown)}. {_ADVICE}"
        )


def require_same(optimizer: Any, values: list[Any]) -> None:
    """Refuse values that belong to other variables than those a built ``optimizer`` knows.

    Whose they are is known of those that a Keras model hands over in ``fit``.

    Raises:
        ValueError: If they are others, or not as many.
    """
    known = optimizer._trainable_variables
    if not optimizer.built:
        return
    trainer = _trainer_of(optimizer)
    given = [] if trainer is None else list(trainer.trainable_variables)
    if len(given) == len(values) and not _are_same(known, given):
        engines.active().hand_back(trainer)
        new = [v for v in given if not any(v is k for k in known)]
        left = [k for k in known if not any(k is v for v in given)]
        raise ValueError(
            f"The optimizer '{optimizer.name}' was not built for the variables that the model "
            f"'{trainer.name}' trains. Trained, and unknown to the optimizer: {_listed(new)}. "
            f"Known to it, and not trained: {_listed(left)}. Compile the model with a new "
            "optimizer; `get_slot` of the one and of the other carry state over."
        )
    if len(values) != len(known):
        raise ValueError(
            f"The optimizer '{optimizer.name}' was built for {_listed(known)}: `stateless_apply` "
            f"takes a value for each. Received: {len(values)} values. {_ADVICE}"
        )


def _are_same(known: list[Any], variables: list[Any]) -> bool:
    return len(known) == len(variables) and all(map(is_, known, variables))


def _trainer_of(optimizer: Any) -> Any:
    for caller in filter(is_trainer, calling_objects()):
        if any(o is optimizer for o in with_inner_optimizers(getattr(caller, "optimizer", None))):
            return caller
    return None


def _listed(variables: Iterable[Any]) -> str:
    return ", ".join(f"'{variable_path(v)}'" for v in variables) or "none"
