"""RectifiedAdam, Nadam, Lookahead and Ranger for Keras 3.

What `tfa.optimizers` and `tf.keras.optimizers` of 2020 computed, on TensorFlow,
JAX and PyTorch.
"""

from surefoot import optimizers
from surefoot.lookahead import Lookahead
from surefoot.nadam import Nadam
from surefoot.ranger import Ranger
from surefoot.rectified_adam import RectifiedAdam

__version__ = "0.1.0"

__all__ = ["Lookahead", "Nadam", "Ranger", "RectifiedAdam", "__version__", "optimizers"]
