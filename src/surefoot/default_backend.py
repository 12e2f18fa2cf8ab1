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


def _configured() -> str:
    """The backend of Keras's configuration file, which Keras itself writes, or its default."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"
