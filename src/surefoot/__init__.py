"""RectifiedAdam, Nadam, Lookahead, Ranger and others for Keras 3.

They compute what `tfa.optimizers` and `tf.keras.optimizers` of 2020 computed,
on TensorFlow, JAX and PyTorch.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

from surefoot.default_backend import (
    ensure_backend,
    is_command,
    missing_backend,
    what_to_install,
)

ensure_backend()

__version__ = "0.1.0"

__all__ = [
    "OptimizerDiagnostics",
    "__version__",
    "diagnostics",
    "optimizers",
]

_missing = missing_backend()

# The command answers `--help` at once, without Keras, and loads the optimizers when it needs them.
if _missing is None and not is_command():
    from surefoot import diagnostics, optimizers
    from surefoot.diagnostics import OptimizerDiagnostics
    from surefoot.optimizers import *  # noqa: F403

    __all__ += optimizers.__all__

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # An import asks for a module first and then loads it; what it needs may be half loaded.
        is_module = name not in __all__ and importlib.util.find_spec(f"{__name__}.{name}")
        if name.startswith("_") or is_module:
            raise AttributeError(f"module 'surefoot' has no attribute {name!r}")
        if _missing is not None:
            raise ImportError(f"There is no surefoot.{name}: {what_to_install(str(_missing))}")
        if "OptimizerDiagnostics" not in globals():
            loaded = importlib.import_module("surefoot.optimizers")
            module = importlib.import_module("surefoot.diagnostics")
            names = {other: getattr(loaded, other) for other in loaded.__all__}
            globals().update(names, OptimizerDiagnostics=module.OptimizerDiagnostics)
            __all__.extend(names)
            if name in globals():
                return globals()[name]
        from surefoot.legacy_api.heirs import missing_attribute

        raise AttributeError(missing_attribute("surefoot", name))
