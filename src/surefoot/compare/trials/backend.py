"""Chooses the Keras backend before Keras is imported."""

import importlib.util
import os

from surefoot.compare.errors import UsageError

# In order of preference: the time until the first results of a small model.
_BACKENDS = ("jax", "torch", "tensorflow")


def choose_backend(requested: str | None) -> str:
    """The requested backend, else `KERAS_BACKEND`, else the first one installed.

    Raises:
        UsageError: If it is unknown or not installed, or none is.
    """
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    name = requested or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if name is None:
        raise UsageError(
            "no backend is installed; install one, like pip install 'surefoot[compare,jax]'"
        )
    source = "" if requested else " (from KERAS_BACKEND)"
    if name not in _BACKENDS:
        raise UsageError(f"unknown backend {name!r}{source}; known are {', '.join(_BACKENDS)}")
    if name not in installed:
        raise UsageError(
            f"the backend {name!r}{source} is not installed: pip install "
            f"'surefoot[compare,{name}]'; installed: {', '.join(installed) or 'none'}"
        )
    return name
