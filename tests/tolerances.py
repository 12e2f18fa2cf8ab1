"""Every tolerance of the tests, by name, with its reason."""

import numpy as np

# The originals round schedules, 0.96 and the momentum cache through float32; everything
# else agrees to rounding.
GOLDEN_FLOAT64 = 2e-8
GOLDEN_REFERENCE = 9e-9

# The reference and a float64 run do the same arithmetic in another order.
REFERENCE_FLOAT64 = 1e-12

# float32: a share of the distance moved, for what is computed. Beside it, every step rounds
# the parameter once: over n steps that walks about sqrt(n) units in the last place.
FLOAT32_OF_DISTANCE = 3e-5

# fit: the gradients themselves are float32 of the backend.
FIT_OF_DISTANCE = 2e-4

# Norms and rates that a step takes of itself in float32, of float32 weights, relative.
NORMS_FLOAT32 = 2e-5

# Scalars of a step against 50-digit arithmetic, relative, where the backend computes float32.
SCALARS_FLOAT32 = 2e-6
SCALARS_FLOAT64 = 1e-12

# A fused kernel rounds 1 - beta to float32 (half of 2^-15, relative) where the rule does not.
FUSED_KERNEL = 2e-5


def float32_bound(start: np.ndarray, now: np.ndarray, steps: int) -> float:
    """How far a float32 run may be from ``now`` after moving there from ``start``."""
    distance = np.max(np.abs(now - start), initial=0.0)
    resolution = np.spacing(np.float32(np.max(np.abs([start, now]), initial=0.0)))
    return FLOAT32_OF_DISTANCE * float(distance) + np.sqrt(steps) * float(resolution)
