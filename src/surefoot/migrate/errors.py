"""What can go wrong when an old file is brought over."""


class MigrationError(ValueError):
    """An old file cannot be brought over as it is; nothing was changed."""


class UnsafeFileError(MigrationError):
    """A file asks for something a file of weights never needs: code, links, other paths."""


class MissingTensorFlowError(MigrationError, ImportError):
    """SavedModels and checkpoints are read through TensorFlow, which is not installed."""


class MissingOptimizerStateWarning(UserWarning):
    """The file never held its optimizer's state, so training starts at step 0."""
