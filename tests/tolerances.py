"""Every tolerance of the tests, by name, with its reason."""

import numpy as np

# The originals round schedules, 0.96 and the momentum cache through float32; everything
# else agrees to rounding.
GOLDEN_FLOAT64 = 2e-8
GOLDEN_REFERENCE = 9e-9

# The reference and a float64 run do the same arithmetic in another order.
REFERENCE_FLOAT64 = 1e-12

# float32: a share of the distance moved, for what is computed, and a few roundings of the
# parameter itself, which a float32 variable cannot hold better.
FLOAT32_OF_DISTANCE = 3e-5
FLOAT32_ROUNDINGS = 2.0

# Scalars of a step against 50-digit arithmetic, relative, where the backend computes float32.
SCALARS_FLOAT32 = 2e-6
SCALARS_FLOAT64 = 1e-12


def float32_bound(start: np.ndarray, now: np.ndarray) -> float:
    """How far a float32 run may be from ``now`` after moving there from ``start``."""
    distance = np.max(np.abs(now - start), initial=0.0)
    resolution = np.spacing(np.float32(np.max(np.abs([start, now]), initial=0.0)))
    return FLOAT32_OF_DISTANCE * float(distance) + FLOAT32_ROUNDINGS * float(resolution)
