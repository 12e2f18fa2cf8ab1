"""Selects an installed backend if the user has not chosen one.

By default Keras uses TensorFlow, and fails if that is not installed. In this
case an installed backend is used, so that `surefoot --help` and
`import surefoot` work after ``pip install surefoot[jax]``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from itertools import pairwise
from pathlib import Path

_BACKENDS = ("tensorflow", "jax", "torch")


def ensure_backend() -> None:
    """Set ``KERAS_BACKEND`` if Keras would otherwise use a backend that is not installed."""
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    if installed and _configured() not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]


def missing_backend() -> str | None:
    """The backend that Keras would use but that is not installed, or None."""
    if "keras" in sys.modules:
        return None
    name = os.environ.get("KERAS_BACKEND") or _configured()
    return name if importlib.util.find_spec(name) is None else None


def is_command() -> bool:
    """Whether this process is the command `surefoot`, also as `python -m surefoot`."""
    started = (getattr(sys, "argv", None) or [""])[0]
    if started == "-m":
        return ("-m", "surefoot") in pairwise(sys.orig_argv)
    return Path(started).stem == "surefoot"


def what_to_install(missing: str) -> str:
    """Advice for a user whose backend ``missing`` is not installed."""
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    extras = ", ".join(f"'surefoot[{name}]'" for name in _BACKENDS)
    if not installed:
        return f"no backend of Keras is installed: pip install one of {extras}"
    remedies = [f"set KERAS_BACKEND to an installed one ({', '.join(installed)})"]
    if missing in _BACKENDS:
        remedies.insert(0, f"pip install 'surefoot[{missing}]'")
    return f"Keras's backend {missing!r} is not installed: {', or '.join(remedies)}"


def _configured() -> str:
    """The backend in Keras's configuration file, or Keras's default."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"
