"""Checks that an optimizer is used with the variables for which it was built."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any

from surefoot import engines
from surefoot.engines.callers import calling_objects, is_trainer
from surefoot.variables.keras_optimizer import with_inner_optimizers
from surefoot.variables.variable import variable_path

_ADVICE = (
    "An optimizer keeps the variables it was built for. Create a new optimizer for other "
    "variables, or call `optimizer.build(all_variables)` at the start and apply gradients to "
    "those that are trained. To transfer state, use `get_slot` of both optimizers."
)


def require_known(optimizer: Any, variables: list[Any]) -> None:
    """Raise an error for variables that a built ``optimizer`` was not built for.

    Raises:
        ValueError: If there is one; it names the variables.
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
    """Raise an error for values of other variables than those ``optimizer`` was built for.

    The variables of the values are known only in ``fit``, from the Keras model.

    Raises:
        ValueError: If the variables or their number differ.
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
            f"'{trainer.name}' trains. Trained, but unknown to the optimizer: {_listed(new)}. "
            f"Known to the optimizer, but not trained: {_listed(left)}. Compile the model with a "
            "new optimizer. To transfer state, use `get_slot` of both optimizers."
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
