"""A backend for those who have installed one and chosen none.

Keras falls back on TensorFlow, and fails where that is not installed. Then the
backend that is installed is meant: `surefoot --help` and `import surefoot`
should work after ``pip install surefoot[jax]``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

_BACKENDS = ("tensorflow", "jax", "torch")


def ensure_backend() -> None:
    """Set ``KERAS_BACKEND`` if Keras would otherwise look for a backend that is not there."""
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    if installed and _configured() not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]


def missing_backend() -> str | None:
    """The backend that Keras would look for in vain; None if it is there, or was not needed."""
    if "keras" in sys.modules:
        return None
    name = os.environ.get("KERAS_BACKEND") or _configured()
    return name if importlib.util.find_spec(name) is None else None


def what_to_install(missing: str) -> str:
    """What somebody should do who has no ``missing``, which Keras is to use."""
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    extras = ", ".join(f"'surefoot[{name}]'" for name in _BACKENDS)
    if not installed:
        return f"no backend of Keras is installed: pip install one of {extras}"
    remedies = [f"set KERAS_BACKEND to one that is ({', '.join(installed)})"]
    if missing in _BACKENDS:
        remedies.insert(0, f"pip install 'surefoot[{missing}]'")
    return f"Keras is to use {missing!r}, which is not installed: {', or '.join(remedies)}"


def _configured() -> str:
    """The backend of Keras's configuration file, which Keras itself writes, or its default."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"
