"""Brings models of tf.keras 2 and TensorFlow Addons over to Keras 3.

What the originals saved, loads, and training goes on where it stopped.
"""

from surefoot.migrate.batch_normalization import FusedBatchNormalization
from surefoot.migrate.conversion import convert
from surefoot.migrate.errors import (
    MigrationError,
    MissingOptimizerStateWarning,
    MissingTensorFlowError,
    UnsafeFileError,
)
from surefoot.migrate.legacy_rmsprop import LegacyRMSprop
from surefoot.migrate.loading import inspect, load_model
from surefoot.migrate.report import Report
from surefoot.migrate.restoring import restore
from surefoot.migrate.table_optimizers import (
    TableAdam,
    TableKerasNadam,
    TableLegacyRMSprop,
    TableMomentumRMSprop,
    TableMomentumSGD,
    TableNadam,
    TableRectifiedAdam,
    TableRMSprop,
)

__all__ = [
    "FusedBatchNormalization",
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
    "UnsafeFileError",
    "convert",
    "inspect",
    "load_model",
    "restore",
]
