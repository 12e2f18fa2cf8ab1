"""The optimizers under the module name that old code uses.

``import surefoot as tfa`` makes ``tfa.optimizers.RectifiedAdam`` run as it
stands; ``from surefoot.optimizers import Nadam`` replaces
``tf.keras.optimizers.Nadam``.
"""

from typing import TYPE_CHECKING

from surefoot.optimizers.adamw import AdamW
from surefoot.optimizers.lookahead import Lookahead
from surefoot.optimizers.nadam import Nadam
from surefoot.optimizers.ranger import Ranger
from surefoot.optimizers.rectified_adam import RectifiedAdam
from surefoot.optimizers.sgdw import SGDW

__all__ = ["SGDW", "AdamW", "Lookahead", "Nadam", "Ranger", "RectifiedAdam"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from surefoot.legacy_api.heirs import missing_attribute

        raise AttributeError(missing_attribute("surefoot.optimizers", name))
