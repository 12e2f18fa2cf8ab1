"""Finds the class that a file's configuration names: a class of Keras or of the user, no other.

A configuration is untrusted text. Names are looked up only in Keras's public modules and in the
objects that the user registered or passed; no module is imported and no code is created.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import Config, short_class_name

CustomObjects = Mapping[str, Any]
NAMESPACES: dict[str, tuple[Any, type]] = {
    "layer": (keras.layers, keras.layers.Layer),
    "initializer": (keras.initializers, keras.initializers.Initializer),
    "regularizer": (keras.regularizers, keras.regularizers.Regularizer),
    "constraint": (keras.constraints, keras.constraints.Constraint),
    "loss": (keras.losses, keras.losses.Loss),
    "metric": (keras.metrics, keras.metrics.Metric),
    "learning rate schedule": (
        keras.optimizers.schedules,
        keras.optimizers.schedules.LearningRateSchedule,
    ),
}


def custom_object(name: str, custom_objects: CustomObjects) -> Any:
    """The object that the user passed or registered under a name, or None."""
    short = short_class_name(name)
    for key in (name, short):
        if key in custom_objects:
            return custom_objects[key]
    return keras.saving.get_registered_object(name)


def find_class(kind: str, name: str, custom_objects: CustomObjects) -> type:
    """The class that a configuration names.

    Args:
        kind: A key of `NAMESPACES`.
        name: The class's name, with or without package.
        custom_objects: The user's classes by name; they take precedence.

    Returns:
        The class.

    Raises:
        MigrationError: If there is no such class.
    """
    found = custom_object(name, custom_objects)
    if found is None and ">" not in name.removeprefix("Custom>"):
        found = getattr(NAMESPACES[kind][0], short_class_name(name), None)
        if not (inspect.isclass(found) and issubclass(found, NAMESPACES[kind][1])):
            found = None
    if not inspect.isclass(found):
        raise MigrationError(
            f"Keras 3 has no {kind} {name!r}."
            + ("" if found is None else f" Received: {found!r}, which is not a class."),
            needs={short_class_name(name): f"the class of your {kind}"},
        )
    return found


def find_function(kind: str, name: str, custom_objects: CustomObjects) -> Callable[..., Any] | None:
    """An activation, loss or metric function of Keras or of the user, or None."""
    found = custom_object(name, custom_objects)
    if found is None:
        module = {"activation": keras.activations}.get(kind) or NAMESPACES[kind][0]
        found = getattr(module, name, None)
        if name in ("get", "serialize", "deserialize") or inspect.isclass(found):
            return None
    return found if callable(found) else None


def make_object(kind: str, saved: object, custom_objects: CustomObjects) -> Any:
    """Create an initializer, regularizer, constraint or schedule from its configuration.

    Args:
        kind: A key of `NAMESPACES`.
        saved: None, a name, or `{"class_name": ..., "config": ...}`.
        custom_objects: The user's classes by name.

    Returns:
        The object, or None.

    Raises:
        MigrationError: If Keras 3 has no such class, or the class rejects the arguments.
    """
    if saved is None:
        return None
    if isinstance(saved, str):
        saved = {"class_name": saved, "config": {}}
    if not isinstance(saved, dict) or "class_name" not in saved:
        raise MigrationError(f"Not a configuration of a {kind}. Received: {saved!r}.")
    name = saved.get("registered_name") or saved["class_name"]
    if isinstance(saved["class_name"], str) and saved["class_name"].islower():
        # Short names such as `"zeros"` and `"l2"` are looked up by Keras.
        return NAMESPACES[kind][0].get(saved["class_name"])
    return construct(find_class(kind, name, custom_objects), dict(saved.get("config") or {}))


def construct(cls: type, arguments: Config) -> Any:
    """Create an object; if it rejects its arguments, the error shows them."""
    try:
        return cls(**arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise MigrationError(
            f"{cls.__name__} does not accept the file's arguments. Received: {arguments}. ({error})"
        ) from error


def accepted_arguments(cls: type) -> set[str]:
    """The arguments of a layer class, including those of its base classes."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - {"self"}
    return (names | {"name", "trainable", "dtype", "activity_regularizer", "autocast"}) - {"self"}
