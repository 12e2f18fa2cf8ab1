"""The optimizers under the module name that old code uses.

``import surefoot as tfa`` makes ``tfa.optimizers.RectifiedAdam`` run as it
stands; ``from surefoot.optimizers import Nadam`` replaces
``tf.keras.optimizers.Nadam``.
"""

from typing import TYPE_CHECKING

from surefoot.optimizers.adabelief import AdaBelief
from surefoot.optimizers.adamw import AdamW
from surefoot.optimizers.decoupled_weight_decay import (
    DecoupledWeightDecayExtension as DecoupledWeightDecayExtension,
)
from surefoot.optimizers.decoupled_weight_decay import (
    extend_with_decoupled_weight_decay as extend_with_decoupled_weight_decay,
)
from surefoot.optimizers.lamb import LAMB
from surefoot.optimizers.lazy_adam import LazyAdam
from surefoot.optimizers.lookahead import Lookahead
from surefoot.optimizers.moving_average import MovingAverage
from surefoot.optimizers.multi_optimizer import MultiOptimizer
from surefoot.optimizers.nadam import Nadam
from surefoot.optimizers.novograd import NovoGrad
from surefoot.optimizers.ranger import Ranger
from surefoot.optimizers.rectified_adam import RectifiedAdam
from surefoot.optimizers.sgdw import SGDW
from surefoot.optimizers.swa import SWA
from surefoot.optimizers.yogi import Yogi

# TensorFlow Addons had its schedules in this module.
from surefoot.schedules import CyclicalLearningRate as CyclicalLearningRate
from surefoot.schedules import ExponentialCyclicalLearningRate as ExponentialCyclicalLearningRate
from surefoot.schedules import Triangular2CyclicalLearningRate as Triangular2CyclicalLearningRate
from surefoot.schedules import TriangularCyclicalLearningRate as TriangularCyclicalLearningRate

__all__ = [
    "LAMB",
    "SGDW",
    "SWA",
    "AdaBelief",
    "AdamW",
    "LazyAdam",
    "Lookahead",
    "MovingAverage",
    "MultiOptimizer",
    "Nadam",
    "NovoGrad",
    "Ranger",
    "RectifiedAdam",
    "Yogi",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from surefoot.legacy_api.heirs import missing_attribute

        raise AttributeError(missing_attribute("surefoot.optimizers", name))
