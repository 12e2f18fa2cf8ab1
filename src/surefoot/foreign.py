"""Optimizers that are not ours: Keras 3's own, and configs of the originals."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import keras

from surefoot.checkpoint import NamedState, State, assign, shape_mismatches, shapes, storable
from surefoot.slots import variable_path


def deserialized_optimizer(optimizer: Any) -> Any:
    """The optimizer that an object, a name or a config stands for.

    Raises:
        TypeError: If it is none of these.
        ValueError: If the name or config is not known.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return keras.optimizers.get(optimizer)
    if isinstance(optimizer, Mapping) and "class_name" in optimizer:
        return _from_config(optimizer)
    raise TypeError(
        "`optimizer` must be a `keras.optimizers.Optimizer`, the name of one, or its config. "
        f"Received: optimizer={optimizer!r} (of type {type(optimizer).__name__})"
    )


def _from_config(config: Mapping[str, Any]) -> Any:
    module = str(config.get("module") or "")
    if "legacy" in module:
        return legacy_optimizer(str(config["class_name"]), config["config"])
    if module.startswith("tensorflow_addons"):
        # Registered as "Addons>..." there, and an alias here.
        registered = config.get("registered_name") or f"Addons>{config['class_name']}"
        original = keras.saving.get_registered_object(registered)
        if original is None:
            raise ValueError(
                "Of TensorFlow Addons, surefoot has RectifiedAdam and Lookahead. "
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
        from surefoot.nadam import Nadam

        return Nadam.from_config(arguments)
    decay = arguments.pop("decay", 0.0)
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
    """The whole state of any optimizer as arrays by name; a foreign one's by position."""
    if isinstance(optimizer, NamedState):
        return optimizer.named_state()
    state = {key: storable(variable) for key, variable in _by_position(optimizer).items()}
    return state | _pending.get(optimizer, {})


def misfits(optimizer: Any, state: State, prefix: str = "") -> list[str]:
    """What of ``state`` does not fit ``optimizer``, in words."""
    if isinstance(optimizer, NamedState):
        return optimizer.misfits(state, prefix)
    if not optimizer.built:
        return []
    return shape_mismatches(shapes(_by_position(optimizer)), state, prefix)


def restore(optimizer: Any, state: State) -> None:
    """Put a ``state`` without misfits into ``optimizer``, or keep it until that is built."""
    if isinstance(optimizer, NamedState):
        optimizer.restore(state)
    elif optimizer.built:
        assign(_by_position(optimizer), state)
    else:
        _pending[optimizer] = state


def restore_pending(optimizer: Any) -> None:
    """Take what was loaded into a foreign optimizer before it was built.

    Raises:
        ValueError: If it does not fit the optimizer's variables.
    """
    state = _pending.pop(optimizer, None)
    # One that was saved before it was built has no slots: a fresh start.
    if state is not None and len(state) > _UNBUILT_VARIABLES:
        if problems := misfits(optimizer, state):
            raise ValueError(
                f"The state loaded into the optimizer '{optimizer.name}' before it was built does "
                f"not fit its variables. {'; '.join(problems)}."
            )
        assign(_by_position(optimizer), state)


# State that foreign optimizers, which have no place for it, wait for.
_pending: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()
_UNBUILT_VARIABLES = 2  # iteration and learning rate


def _by_position(optimizer: Any) -> dict[str, Any]:
    return {f"variable {index}": v for index, v in enumerate(optimizer.variables)}
