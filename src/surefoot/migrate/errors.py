"""Errors and warnings of the migration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Exceptions that Python raises for content of another form than Keras 2 wrote.
MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError)


class MigrationError(ValueError):
    """An old file cannot be converted; nothing was changed."""


class UnsafeFileError(MigrationError):
    """A file contains something that a saved model never needs: code, links, other paths."""


class MissingTensorFlowError(MigrationError, ImportError):
    """SavedModels and checkpoints are read through TensorFlow, which is not installed."""


class MissingOptimizerStateWarning(UserWarning):
    """The file does not contain its optimizer's state, so training starts at step 0."""


@contextlib.contextmanager
def refusing_malformed(source: str) -> Iterator[None]:
    """Replaces the exceptions that a malformed file causes with one clear error.

    Args:
        source: The file.

    Raises:
        MigrationError: For any exception in `MALFORMED`.
    """
    try:
        yield
    except MigrationError:
        raise
    except MALFORMED as error:
        raise MigrationError(
            f"{source} does not describe a model that can be built "
            f"({type(error).__name__}: {error})."
        ) from error
