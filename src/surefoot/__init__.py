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
    "callbacks",
    "diagnostics",
    "memory",
    "optimizers",
    "schedules",
]

_missing = missing_backend()

# The command answers `--help` at once, without Keras, and loads the optimizers when it needs them.
if _missing is None and not is_command():
    from surefoot import callbacks, diagnostics, optimizers, schedules
    from surefoot.diagnostics import OptimizerDiagnostics
    from surefoot.memory_plan import memory
    from surefoot.optimizers import *  # noqa: F403
    from surefoot.schedules import *  # noqa: F403

    __all__ += optimizers.__all__
    __all__ += schedules.__all__

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "compare":
            return importlib.import_module("surefoot.compare")
        # An import asks for a module first and then loads it; what it needs may be half loaded.
        is_module = name not in __all__ and importlib.util.find_spec(f"{__name__}.{name}")
        if name.startswith("_") or is_module:
            raise AttributeError(f"module 'surefoot' has no attribute {name!r}")
        if _missing is not None:
            raise ImportError(f"There is no surefoot.{name}: {what_to_install(str(_missing))}")
        if "OptimizerDiagnostics" not in globals():
            importlib.import_module("surefoot.callbacks")
            module = importlib.import_module("surefoot.diagnostics")
            loaded = map(importlib.import_module, ("surefoot.optimizers", "surefoot.schedules"))
            names = {each: getattr(part, each) for part in loaded for each in part.__all__}
            plan = importlib.import_module("surefoot.memory_plan")
            others = {"OptimizerDiagnostics": module.OptimizerDiagnostics, "memory": plan.memory}
            globals().update(names, **others)
            __all__.extend(names)
            if name in globals():
                return globals()[name]
        from surefoot.legacy_api.heirs import missing_attribute

        raise AttributeError(missing_attribute("surefoot", name))
