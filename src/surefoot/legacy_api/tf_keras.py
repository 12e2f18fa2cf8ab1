"""Errors for tf_keras: Keras 2, to which `tf.keras` refers if TF_USE_LEGACY_KERAS=1 is set.

Its models accept no optimizer of Keras 3, and their error only says "could not interpret".
"""

from __future__ import annotations

import sys

_ADVICE = (
    "`tf.keras` is tf_keras (Keras 2) while the environment variable TF_USE_LEGACY_KERAS is set. "
    "Unset it, or write `import keras` and use `keras` instead of `tf.keras`. `surefoot migrate` "
    "converts a saved model."
)


def hint(thing: object) -> str:
    """Advice to add to an error about ``thing``; empty unless it is an object of tf_keras."""
    return f" {_ADVICE}" if _is_of_tf_keras(type(thing).__module__) else ""


def refuse_tf_keras(optimizer: object) -> None:
    """Raise an error if tf_keras reads the property of ``optimizer`` that calls this function.

    Raises:
        TypeError: If tf_keras reads the property.
    """
    if _is_of_tf_keras(str(sys._getframe(2).f_globals.get("__name__"))):
        raise TypeError(
            "A model of Keras 2 cannot be compiled with an optimizer of Keras 3. Received: "
            f"surefoot's {type(optimizer).__name__}. {_ADVICE}"
        )


def _is_of_tf_keras(module: str) -> bool:
    return module.partition(".")[0] == "tf_keras"
