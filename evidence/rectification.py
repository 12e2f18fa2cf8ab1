"""RAdam's factor, averaged: what a control without it has to be scaled by."""

from __future__ import annotations

import numpy as np

from surefoot.rule import formulas

BETA_2 = 0.999


def factors(steps: int) -> np.ndarray:
    """RAdam's factor at steps 1 to `steps`, 0 where it does not rectify yet."""
    step = np.arange(1.0, steps + 1)
    found = formulas.rectification(np.float64(1) - np.float64(BETA_2), step, np.float64(5.0), np)
    return np.where(found.rectified, found.factor, 0.0)


def mean_factor(steps: int) -> float:
    """Its mean over a run, to four digits as it stands in the commands."""
    return float(f"{factors(steps).mean():.4g}")


def scaled_adam(steps: int) -> str:
    """Adam whose steps are as long as RAdam's on average, but the same from the first one on."""
    return f"adam+scale({mean_factor(steps):g})"
