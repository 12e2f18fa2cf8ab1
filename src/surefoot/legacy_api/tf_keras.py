"""tf_keras: Keras 2, which `tf.keras` is while TF_USE_LEGACY_KERAS=1 is set.

Its models take no optimizer of Keras 3, and say no more than that they cannot interpret it.
"""

from __future__ import annotations

import sys

_WAY_OUT = (
    "`tf.keras` is tf_keras (Keras 2) while the environment variable TF_USE_LEGACY_KERAS is set. "
    "Unset it, or write `import keras` and use `keras` in place of `tf.keras`. `surefoot migrate` "
    "brings a saved model along."
)


def hint(thing: object) -> str:
    """A sentence to add to an error about ``thing``; empty unless that is of tf_keras."""
    return f" {_WAY_OUT}" if _is_of_tf_keras(type(thing).__module__) else ""


def refuse_tf_keras(optimizer: object) -> None:
    """To be called by a property of ``optimizer``: raise if it is tf_keras that reads it.

    Raises:
        TypeError: If it was tf_keras that asked.
    """
    if _is_of_tf_keras(str(sys._getframe(2).f_globals.get("__name__"))):
        raise TypeError(
            "A model of Keras 2 cannot be compiled with an optimizer of Keras 3. Received: "
            f"surefoot's {type(optimizer).__name__}. {_WAY_OUT}"
        )


def _is_of_tf_keras(module: str) -> bool:
    return module.partition(".")[0] == "tf_keras"
