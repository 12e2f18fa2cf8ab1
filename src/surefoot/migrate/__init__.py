"""Converts models of tf.keras 2 and TensorFlow Addons to Keras 3.

Files that the originals saved can be loaded, and training continues where it stopped.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.migrate.checking import check
    from surefoot.migrate.conversion import convert
    from surefoot.migrate.errors import (
        DifferentOutputsError,
        LeftOutWarning,
        MigrationError,
        MissingOptimizerStateWarning,
        MissingTensorFlowError,
        UnsafeFileError,
    )
    from surefoot.migrate.layers.activations import (
        hard_sigmoid,
        lisht,
        snake,
        sparsemax,
        tanh_gelu,
    )
    from surefoot.migrate.layers.batch_normalization import FusedBatchNormalization
    from surefoot.migrate.layers.text_vectorization import TextVectorization
    from surefoot.migrate.loading import inspect, load_model
    from surefoot.migrate.losses import CosineSimilarity, CosineSimilarityMetric, Huber
    from surefoot.migrate.optimizers.legacy_rmsprop import LegacyRMSprop
    from surefoot.migrate.optimizers.table_optimizers import (
        TableAdam,
        TableKerasNadam,
        TableLegacyRMSprop,
        TableMomentumRMSprop,
        TableMomentumSGD,
        TableNadam,
        TableRectifiedAdam,
        TableRMSprop,
    )
    from surefoot.migrate.report import Report
    from surefoot.migrate.restoring import restore

_MODULES = {
    "CosineSimilarity": "losses",
    "CosineSimilarityMetric": "losses",
    "DifferentOutputsError": "errors",
    "FusedBatchNormalization": "layers.batch_normalization",
    "Huber": "losses",
    "LeftOutWarning": "errors",
    "LegacyRMSprop": "optimizers.legacy_rmsprop",
    "MigrationError": "errors",
    "MissingOptimizerStateWarning": "errors",
    "MissingTensorFlowError": "errors",
    "Report": "report",
    "TableAdam": "optimizers.table_optimizers",
    "TableKerasNadam": "optimizers.table_optimizers",
    "TableLegacyRMSprop": "optimizers.table_optimizers",
    "TableMomentumRMSprop": "optimizers.table_optimizers",
    "TableMomentumSGD": "optimizers.table_optimizers",
    "TableNadam": "optimizers.table_optimizers",
    "TableRMSprop": "optimizers.table_optimizers",
    "TableRectifiedAdam": "optimizers.table_optimizers",
    "TextVectorization": "layers.text_vectorization",
    "UnsafeFileError": "errors",
    "check": "checking",
    "convert": "conversion",
    "hard_sigmoid": "layers.activations",
    "inspect": "loading",
    "lisht": "layers.activations",
    "load_model": "loading",
    "restore": "restoring",
    "snake": "layers.activations",
    "sparsemax": "layers.activations",
    "tanh_gelu": "layers.activations",
}

__all__ = [
    "CosineSimilarity",
    "CosineSimilarityMetric",
    "DifferentOutputsError",
    "FusedBatchNormalization",
    "Huber",
    "LeftOutWarning",
    "LegacyRMSprop",
    "MigrationError",
    "MissingOptimizerStateWarning",
    "MissingTensorFlowError",
    "Report",
    "TableAdam",
    "TableKerasNadam",
    "TableLegacyRMSprop",
    "TableMomentumRMSprop",
    "TableMomentumSGD",
    "TableNadam",
    "TableRMSprop",
    "TableRectifiedAdam",
    "TextVectorization",
    "UnsafeFileError",
    "check",
    "convert",
    "hard_sigmoid",
    "inspect",
    "lisht",
    "load_model",
    "restore",
    "snake",
    "sparsemax",
    "tanh_gelu",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


# The import registers the layers and optimizers of this package with Keras. The command line
# imports them later, because importing Keras fixes the backend that the arguments choose.
if "surefoot.cli" not in sys.modules:
    for _name in _MODULES:
        __getattr__(_name)
