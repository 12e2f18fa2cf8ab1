"""Errors and warnings of the migration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

# Exceptions that Python raises for content of another form than Keras 2 wrote.
MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError)


class MigrationError(ValueError):
    """An old file cannot be converted; nothing was changed.

    Args:
        reason: What is in the way.
        needs: What `custom_objects` must contain, by name, such as `{"Scale": "your layer"}`.
        weights_only: Whether `weights_only=True` avoids the error.

    Example:
        >>> print(MigrationError("Keras 3 has no layer 'Scale'.", needs={"Scale": "your layer"}))
        Keras 3 has no layer 'Scale'. Pass your layer: custom_objects={'Scale': ...}.
    """

    def __init__(
        self, reason: str, *, needs: Mapping[str, str] | None = None, weights_only: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.needs = dict(needs or {})
        self.weights_only = weights_only

    def __str__(self) -> str:
        parts = [self.reason]
        if self.needs:
            names = ", ".join(f"{name!r}: ..." for name in self.needs)
            parts.append(f"Pass {self.needed()}: custom_objects={{{names}}}.")
        if self.weights_only:
            parts.append(
                "With weights_only=True the weights are loaded without optimizer, loss and metrics."
            )
        return " ".join(parts)

    def needed(self) -> str:
        """What `custom_objects` must contain, in words."""
        return next(iter(self.needs.values())) if len(self.needs) == 1 else "what is missing"


class UnsafeFileError(MigrationError):
    """A file contains something that a saved model never needs: code, links, other paths."""


class DifferentOutputsError(MigrationError):
    """A migrated model does not compute what the original computed."""


class MissingTensorFlowError(MigrationError, ImportError):
    """SavedModels and checkpoints are read through TensorFlow, which is not installed."""


class MissingOptimizerStateWarning(UserWarning):
    """The file does not contain its optimizer's state, so training starts at step 0."""


class LeftOutWarning(UserWarning):
    """With `weights_only=True`, an optimizer, a loss or metrics of the file were left out."""


def together(errors: Sequence[MigrationError], source: str) -> MigrationError:
    """One error that names all of several.

    Args:
        errors: The errors, at least one.
        source: The file.

    Returns:
        The error: an `UnsafeFileError` if one of them is.
    """
    if len(errors) == 1:
        return errors[0]
    unsafe = any(isinstance(error, UnsafeFileError) for error in errors)
    reasons = "".join(f"\n- {error.reason}" for error in errors)
    return (UnsafeFileError if unsafe else MigrationError)(
        f"{source} cannot be converted as it is, for {len(errors)} reasons:{reasons}\n",
        needs={name: what for error in errors for name, what in error.needs.items()},
        weights_only=any(error.weights_only for error in errors),
    )


@contextlib.contextmanager
def refusing_malformed(source: str, training: bool = False) -> Iterator[None]:
    """Replaces the exceptions that a malformed file causes with one clear error.

    Args:
        source: The file.
        training: Whether only optimizer, loss and metrics are concerned, so that
            `weights_only=True` avoids the error.

    Raises:
        MigrationError: For any exception in `MALFORMED`.
    """
    try:
        yield
    except UnsafeFileError:
        raise
    except MigrationError as error:
        error.weights_only |= training
        raise
    except MALFORMED as error:
        raise MigrationError(
            f"{source} does not describe a model that can be built "
            f"({type(error).__name__}: {error}).",
            weights_only=training,
        ) from error
