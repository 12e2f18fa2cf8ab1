"""Writes a migrated model to a new `.keras` file; an incomplete file is never left behind."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any

import keras

from surefoot.migrate import checking
from surefoot.migrate.allowed import CustomObjects
from surefoot.migrate.checking import TOLERANCE
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.loading import Path, load_model
from surefoot.migrate.report import Report


def convert(
    path: Path,
    target: Path,
    custom_objects: CustomObjects | None = None,
    *,
    weights_only: bool = False,
    check: Path | None = None,
    tolerance: float = TOLERANCE,
) -> Report:
    """Converts an old file to a `.keras` file of Keras 3.

    Args:
        path: The old file, as for `load_model`.
        target: The new file. It must not exist and must end in `.keras`.
        custom_objects: As for `load_model`.
        weights_only: As for `load_model`.
        check: A file of inputs and outputs of the original, as for `surefoot.migrate.check`. The
            new file is written only if the model that is loaded from it agrees.
        tolerance: As for `surefoot.migrate.check`.

    Returns:
        A report of the old file's content and of what it became.

    Raises:
        FileExistsError: If the target exists.
        FileNotFoundError: If the old file or the target's directory does not exist.
        PermissionError: If the target's directory cannot be written.
        DifferentOutputsError: If the outputs do not agree; nothing is written.
        MigrationError: If the old file cannot be converted; nothing is written.
    """
    target = pathlib.Path(target)
    check_target(target)
    model, report = load_model(path, custom_objects, weights_only=weights_only, return_report=True)
    # In the same directory, so that the finished file can be moved in one atomic step.
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
        finished = pathlib.Path(folder) / target.name
        model.save(finished)
        if check is not None:
            loaded = keras.models.load_model(finished, _by_class(custom_objects), compile=False)
            report.differences = checking.check(loaded, check, tolerance)
        try:
            # Unlike a rename, a link never replaces a file that was created in the meantime.
            os.link(finished, target)
        except FileExistsError:
            raise FileExistsError(f"{target} exists") from None
        except OSError:
            # Some file systems do not support links.
            check_target(target)
            os.replace(finished, target)
    return report


def _by_class(custom_objects: CustomObjects | None) -> dict[str, Any]:
    """The user's objects by their own names, as the new file has them."""
    named = [given for given in (custom_objects or {}).values() if hasattr(given, "__name__")]
    return {given.__name__: given for given in named} | {
        type(given).__name__: type(given)
        for given in (custom_objects or {}).values()
        if isinstance(given, keras.layers.Layer)
    }


def check_target(target: pathlib.Path) -> None:
    """Raises an error unless a new file can be written there."""
    if target.suffix != ".keras":
        raise MigrationError(f"The new file must end in .keras. Received: {target}.")
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no directory {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"{target.parent} cannot be written to")
