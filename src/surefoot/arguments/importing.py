"""Imports objects that are given by their path on the command line."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def import_object(reference: str, what: str, error: type[Exception]) -> Any:
    """Import `package.module:name` or `path/to/file.py:name`.

    Args:
        reference: The path. The current directory is searched first.
        what: What the object should be, for messages.
        error: The exception to raise if the module, the file or the name in it does not exist.

    Returns:
        The object. Errors that are raised inside the module are not caught.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise error(f"{reference!r} is not {what}; it must be module:name or file.py:name")
    if place.endswith(".py"):
        module = import_file(Path(place), what, error)
    else:
        module = _import_module(place, what, error)
    if not hasattr(module, name):
        raise error(f"{place} has no {name!r}, so {reference!r} is not {what}")
    return getattr(module, name)


def import_file(path: Path, what: str, error: type[Exception]) -> Any:
    """The module of a file, imported once.

    Args:
        path: The file.
        what: What is looked for in it, for messages.
        error: The exception to raise if there is no such file.
    """
    if not path.is_file():
        raise error(f"cannot import {what}: there is no file {str(path)!r}")
    path = path.resolve()
    # A prefix, so that the file does not shadow an installed package of the same name.
    name = f"surefoot_user_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _import_module(name: str, what: str, error: type[Exception]) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        # If a module is missing that the user's module imports, the traceback is shown.
        if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
            raise
        raise error(f"cannot import {what}: there is no module {name!r}") from None
