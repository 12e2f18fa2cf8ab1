"""The names under which Keras finds the optimizers in files and configs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras

PACKAGE = "surefoot"


def register(optimizer_class: type, aliases: tuple[str, ...] = ()) -> None:
    """Register ``optimizer_class`` as ``surefoot>Name`` and under ``aliases``.

    An alias makes Keras resolve what another package registered: the originals'
    ``Addons>...`` in old files, or a plain name in `keras.optimizers.get`.
    """
    keras.saving.register_keras_serializable(package=PACKAGE)(optimizer_class)
    for alias in aliases:
        keras.saving.get_custom_objects()[alias] = optimizer_class


def also_known(custom_objects: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    """A scope that adds ``custom_objects`` to those of the scopes around it.

    Keras's scope alone puts its objects in their place, also where it has none: hidden are
    then those that `keras.models.load_model` was given.
    """
    with keras.saving.custom_object_scope({}) as probe:
        known = probe.backup
    scope: AbstractContextManager[Any] = keras.saving.custom_object_scope(
        {**known, **(custom_objects or {})}
    )
    return scope
