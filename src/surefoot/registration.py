"""The names under which Keras finds the optimizers in files and configs."""

from __future__ import annotations

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
