"""The optimizers under the module name that old code uses.

``import surefoot as tfa`` makes ``tfa.optimizers.RectifiedAdam`` run as it
stands; ``from surefoot.optimizers import Nadam`` replaces
``tf.keras.optimizers.Nadam``.
"""

from surefoot.lookahead import Lookahead
from surefoot.nadam import Nadam
from surefoot.ranger import Ranger
from surefoot.rectified_adam import RectifiedAdam

__all__ = ["Lookahead", "Nadam", "Ranger", "RectifiedAdam"]
