"""RectifiedAdam, Nadam, Lookahead and Ranger for Keras 3.

They compute what `tfa.optimizers` and `tf.keras.optimizers` of 2020 computed,
on TensorFlow, JAX and PyTorch.
"""

from typing import TYPE_CHECKING

from surefoot.default_backend import ensure_backend, missing_backend, what_to_install

ensure_backend()

__version__ = "0.1.0"

__all__ = [
    "OptimizerDiagnostics",
    "__version__",
    "diagnostics",
    "optimizers",
]

_missing = missing_backend()

if _missing is None:
    from surefoot import diagnostics, optimizers
    from surefoot.diagnostics import OptimizerDiagnostics
    from surefoot.optimizers import *  # noqa: F403

    __all__ += optimizers.__all__
elif not TYPE_CHECKING:
    # Keras cannot be imported, but the command line can; it reports what is missing.
    def __getattr__(name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(f"module 'surefoot' has no attribute {name!r}")
        raise ImportError(f"There is no surefoot.{name}: {what_to_install(str(_missing))}")
