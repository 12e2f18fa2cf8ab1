"""The subcommand `surefoot info`: what is installed, and how a step is computed here."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import platform
from typing import Any

from surefoot.default_backend import missing_backend, what_to_install

_EPILOG = """\
examples:
  surefoot info
  python -m surefoot info
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="show what is installed, and how a step is computed here",
        description="Print versions, the backend that Keras uses, and how an optimizer step is "
        "computed here (by a JIT-compiled loop, by a fused kernel of the backend or by plain "
        "operations) and why. The environment variable KERAS_BACKEND chooses the backend.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot info`."""
    del arguments
    for name, value in facts().items():
        print(f"{name:<10}{value}")
    return 0


def facts() -> dict[str, str]:
    """The lines to print, by name.

    Example:
        >>> list(facts())
        ['surefoot', 'Python', 'Keras', 'NumPy', 'llvmlite', 'backend', 'step', 'because', 'except']
    """
    from surefoot import __version__

    versions = {
        "surefoot": __version__,
        "Python": platform.python_version(),
        "Keras": _version_on_disk("keras"),
        "NumPy": _version("numpy"),
        "llvmlite": _version("llvmlite"),
    }
    missing = missing_backend()
    if missing is not None:
        return versions | {"backend": what_to_install(missing)}
    return versions | _backend_and_step()


def _backend_and_step() -> dict[str, str]:
    import keras

    from surefoot import engines

    backend = keras.backend.backend()
    known = {"Keras": keras.__version__, "backend": f"{backend} {_version(backend)}"}
    try:
        path, reason = engines.active().step_path()
    except RuntimeError as error:  # a backend that is not supported
        return known | {"step": str(error)}
    return known | {"step": path, "because": reason, "except": _by_norm()}


def _by_norm() -> str:
    """The optimizers that no loop serves."""
    import surefoot

    found = [n for n in surefoot.optimizers.__all__ if getattr(surefoot, n).__dict__.get("BY_NORM")]
    return f"{', '.join(found)}: by operations of the backend, which take norms of whole tensors"


def _version(module: str) -> str:
    """The version of the imported module, which may differ from its package metadata."""
    try:
        return str(importlib.import_module(module).__version__)
    except ImportError:
        return "not installed"


def _version_on_disk(package: str) -> str:
    """The version of a package that may not be importable because its backend is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
