"""RectifiedAdam, Nadam, Lookahead and Ranger for Keras 3.

What `tfa.optimizers` and `tf.keras.optimizers` of 2020 computed, on TensorFlow,
JAX and PyTorch.
"""

from surefoot.default_backend import ensure_backend

ensure_backend()

from surefoot import diagnostics, optimizers  # noqa: E402
from surefoot.diagnostics import OptimizerDiagnostics  # noqa: E402
from surefoot.optimizers import *  # noqa: E402, F403

__version__ = "0.1.0"

__all__ = [
    "OptimizerDiagnostics",
    "__version__",
    "diagnostics",
    "optimizers",
]
__all__ += optimizers.__all__
