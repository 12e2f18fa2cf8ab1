"""Writes a migrated model to a new `.keras` file; an incomplete file is never left behind."""

from __future__ import annotations

import os
import pathlib
import tempfile

from surefoot.migrate.allowed import CustomObjects
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.loading import Path, load_model
from surefoot.migrate.report import Report


def convert(path: Path, target: Path, custom_objects: CustomObjects | None = None) -> Report:
    """Converts an old file to a `.keras` file of Keras 3.

    Args:
        path: The old file, as for `load_model`.
        target: The new file. It must not exist and must end in `.keras`.
        custom_objects: As for `load_model`.

    Returns:
        A report of the old file's content and of what it became.

    Raises:
        FileExistsError: If the target exists.
        FileNotFoundError: If the old file or the target's directory does not exist.
        PermissionError: If the target's directory cannot be written.
        MigrationError: If the old file cannot be converted; nothing is written.
    """
    target = pathlib.Path(target)
    check_target(target)
    model, report = load_model(path, custom_objects, return_report=True)
    # In the same directory, so that the finished file can be moved in one atomic step.
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
        finished = pathlib.Path(folder) / target.name
        model.save(finished)
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
