"""What can go wrong when an old file is brought over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# What Python raises where a file says something of another form than Keras 2 wrote.
MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError)


class MigrationError(ValueError):
    """An old file cannot be brought over as it is; nothing was changed."""


class UnsafeFileError(MigrationError):
    """A file asks for something a file of weights never needs: code, links, other paths."""


class MissingTensorFlowError(MigrationError, ImportError):
    """SavedModels and checkpoints are read through TensorFlow, which is not installed."""


class MissingOptimizerStateWarning(UserWarning):
    """The file never held its optimizer's state, so training starts at step 0."""


@contextlib.contextmanager
def refusing_malformed(source: str) -> Iterator[None]:
    """Turns what a malformed description leads to into one clear error.

    Args:
        source: The file.

    Raises:
        MigrationError: In place of any of `MALFORMED`.
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
