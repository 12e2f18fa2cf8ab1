"""Optimizers that are not ours: Keras 3's own, and configs of the originals."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import keras

from surefoot.base.registration import PACKAGE
from surefoot.legacy_api import tf_keras
from surefoot.state.counter import widen_counter
from surefoot.state.named_state import (
    NamedState,
    State,
    assign,
    pending_state_error,
    permanent_assignment,
    range_problems,
    storable,
    variable_mismatches,
)
from surefoot.variables.keras_optimizer import wrapped_optimizers
from surefoot.variables.variable import variable_path


def deserialized_optimizer(optimizer: Any) -> Any:
    """The optimizer that an object, a name or a config stands for; it counts as far as ours.

    Raises:
        TypeError: If it is none of these.
        ValueError: If the name or config is not known.
    """
    if isinstance(optimizer, str):
        made = keras.optimizers.get(optimizer)
    elif isinstance(optimizer, Mapping):
        parts = optimizer.get("class_name"), optimizer.get("config")
        known = isinstance(parts[0], str) and isinstance(parts[1], Mapping)
        made = _from_config(optimizer) if known else None
        if not isinstance(made, keras.optimizers.Optimizer):
            raise ValueError(
                "The config of an optimizer must have the 'class_name' of a known one, and a "
                f"dictionary as 'config'. Received: optimizer={optimizer!r}"
            )
    else:
        made = optimizer
    if not isinstance(made, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a `keras.optimizers.Optimizer`, the name of one, or its config. "
            f"Received: optimizer={optimizer!r} (of type {type(optimizer).__name__})."
            f"{tf_keras.hint(optimizer)}"
        )
    widen_counter(made)
    return made


def _from_config(config: Mapping[str, Any]) -> Any:
    module = str(config.get("module") or "")
    if "legacy" in module:
        return legacy_optimizer(str(config["class_name"]), config["config"])
    if module.startswith("tensorflow_addons"):
        # Registered as "Addons>..." there, and an alias here.
        registered = config.get("registered_name") or f"Addons>{config['class_name']}"
        original = keras.saving.get_registered_object(registered)
        if original is None:
            known = [n for n in keras.saving.get_custom_objects() if n.startswith("Addons>")]
            raise ValueError(
                f"Of TensorFlow Addons, these optimizers are known: {', '.join(sorted(known))}. "
                f"Received: {registered}"
            )
        return original.from_config(config["config"])
    # Keras's own deserialization changes what it is given.
    return keras.optimizers.deserialize(dict(config) | {"config": dict(config["config"])})


def legacy_optimizer(class_name: str, config: Mapping[str, Any]) -> Any:
    """The Keras 3 optimizer for a config of `tf.keras.optimizers.legacy`.

    Its ``decay`` becomes an `InverseTimeDecay` schedule, which computes the
    same; Nadam becomes ours, since Keras 3's computes something else.
    """
    arguments = dict(config)
    if class_name.lower() == "nadam":
        # By its registered name, since optimizers are built on this module.
        nadam = keras.saving.get_registered_object(f"{PACKAGE}>Nadam")
        return nadam.from_config(arguments)
    decay = arguments.pop("decay", 0.0)
    if decay and "learning_rate" not in arguments:
        raise ValueError(
            f"A config with `decay` must have the `learning_rate` that decays. Received: {config!r}"
        )
    if decay:
        arguments["learning_rate"] = keras.optimizers.schedules.InverseTimeDecay(
            arguments["learning_rate"], decay_steps=1, decay_rate=decay
        )
    return keras.optimizers.deserialize({"class_name": class_name, "config": arguments})


def weight_entries(optimizer: Any) -> list[tuple[str, Any]]:
    """The slots of a Keras optimizer by name, slot by slot, as in the originals.

    Keras keeps them variable by variable; which slot one is shows in its name,
    which begins with that of its model variable.
    """
    slots: dict[str, list[tuple[str, Any]]] = {}
    rest = [
        v
        for v in optimizer.variables
        if v is not optimizer._iterations and v is not optimizer._learning_rate
    ]
    references = [variable_path(v).replace("/", "_") for v in optimizer._trainable_variables]
    for variable in rest:
        prefixes = [r for r in references if variable.name.startswith(f"{r}_")]
        prefix = max(prefixes, key=len, default="")
        slot_name = variable.name.removeprefix(f"{prefix}_")
        slots.setdefault(slot_name, []).append((variable.name, variable))
    return [item for column in slots.values() for item in column]


def named_state(optimizer: Any) -> State:
    """The whole state of any optimizer as arrays by name; of one of Keras's by position."""
    if isinstance(optimizer, NamedState):
        return optimizer.named_state()
    return _pending.get(optimizer) or {
        key: storable(variable) for key, variable in _numbered(optimizer.variables).items()
    }


def mismatches(optimizer: Any, state: State, prefix: str = "") -> list[str]:
    """What of ``state`` does not fit ``optimizer``, in words."""
    if isinstance(optimizer, NamedState):
        return optimizer.mismatches(state, prefix)
    if _must_wait(optimizer, state):
        return []
    variables = _variables_of(optimizer, state)
    of_keras = (optimizer._iterations, optimizer._learning_rate)
    numbers = {k: v for k, v in variables.items() if any(v is own for own in of_keras)}
    return [
        *variable_mismatches(variables, state, prefix),
        *range_problems(optimizer, numbers, state, prefix),
    ]


def restore(optimizer: Any, state: State) -> None:
    """Put a ``state`` without mismatches into ``optimizer``, or keep it until that is built."""
    if isinstance(optimizer, NamedState):
        optimizer.restore(state)
        return
    _pending.pop(optimizer, None)
    if _must_wait(optimizer, state):
        _pending[optimizer] = state
        return
    with permanent_assignment(optimizer.name):
        assign(_variables_of(optimizer, state), state)


def _must_wait(optimizer: Any, state: State) -> bool:
    """Whether ``state`` is that of a built optimizer, and this one is not built yet."""
    return not optimizer.built and len(state) > len(optimizer.variables)


def restore_pending(optimizer: Any) -> None:
    """Take what was loaded into an optimizer before it was built.

    Raises:
        ValueError: If it does not fit the optimizer's variables. It waits on, so that no step is
            made without it.
        RuntimeError: If it would be lost here.
    """
    if isinstance(optimizer, NamedState):
        optimizer.restore_pending_slots()
        return
    state = _pending.get(optimizer)
    if state is not None:
        problems = mismatches(optimizer, state)
        if problems:
            raise pending_state_error(optimizer.name, problems)
        restore(optimizer, state)


# State that was loaded before an optimizer of Keras was built, which has no place for it itself.
_pending: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()


def _variables_of(optimizer: Any, state: State) -> dict[str, Any]:
    """The variables that ``state`` is of, as it numbers them.

    Of an optimizer that was saved before it was built these are the ones that it is made with:
    its slots start afresh.
    """
    made_with = _made_with(optimizer)
    return _numbered(made_with if len(state) == len(made_with) else optimizer.variables)


def _made_with(optimizer: Any) -> list[Any]:
    own = [optimizer._iterations]
    if isinstance(optimizer._learning_rate, keras.Variable):
        own.append(optimizer._learning_rate)
    return own + [v for part in wrapped_optimizers(optimizer) for v in _made_with(part)]


def _numbered(variables: list[Any]) -> dict[str, Any]:
    return {f"variable {index}": variable for index, variable in enumerate(variables)}
