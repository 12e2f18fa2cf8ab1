"""The experiments, in the order of the page."""

from evidence.experiments import (
    digits,
    first_steps,
    moments,
    post_norm,
    pre_norm,
    precision,
    variance,
)

ALL = (
    post_norm.EXPERIMENT,
    pre_norm.EXPERIMENT,
    first_steps.EXPERIMENT,
    variance.EXPERIMENT,
    digits.EXPERIMENT,
    precision.EXPERIMENT,
    moments.EXPERIMENT,
)
