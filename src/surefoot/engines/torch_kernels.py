"""The rule by PyTorch's fused AdamW kernel: one pass over memory.

The kernel *is* the rule where Nesterov momentum is zero and the step is
adaptive; a step count beyond all powers switches its own bias correction off.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch

from surefoot.rule import StepScalars
from surefoot.slots import Tracked

Pairs = list[tuple[Tracked, Any]]

# The kernel rounds beta to float32 and multiplies: off by 1.3e-5 of 1 - beta for
# 0.999, by 1.4e-3 for 0.99999. Half of that is the step's relative error.
_LARGEST_COMPLEMENT_ERROR = 2.0**-15

_NO_BIAS_CORRECTION = torch.tensor(float("inf"))


def is_rule(scalars: StepScalars) -> bool:
    """Whether the kernel computes this step: all of it known on the host."""
    return (
        scalars.gradient_weight is None
        and scalars.adaptive is True
        and all(isinstance(x, float) for x in (scalars.moment_weight, scalars.shrink))
        and _fits(scalars.one_minus_beta_1)
        and _fits(scalars.one_minus_beta_2)
    )


def _fits(complement: float) -> bool:
    rounded = 1.0 - float(np.float32(1.0 - complement))
    return abs(rounded - complement) <= _LARGEST_COMPLEMENT_ERROR * complement


def update(scalars: StepScalars, pairs: Pairs) -> Pairs:
    """Update the variables that the kernel serves; return the others."""
    groups: dict[tuple[torch.dtype, bool], list[tuple[torch.Tensor, ...]]] = {}
    left = []
    for tracked, gradient in pairs:
        tensors = [_native(tracked.variable), gradient, *map(_native, tracked.moments)]
        tensors = [t for t in tensors if t is not None]
        if tracked.master is None and _servable(tensors):
            groups.setdefault((tensors[0].dtype, tracked.decays), []).append(tuple(tensors))
        else:
            left.append((tracked, gradient))
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + eps, so divide by s.
    rate = scalars.moment_weight / scalars.root_scale
    for (_, decays), rows in groups.items():
        parameters, gradients, m, v, *vhat = map(list, zip(*rows, strict=True))
        torch._fused_adamw_(
            parameters,
            gradients,
            m,
            v,
            vhat[0] if vhat else [],
            [_NO_BIAS_CORRECTION] * len(parameters),
            lr=rate,
            beta1=1.0 - scalars.one_minus_beta_1,
            beta2=1.0 - scalars.one_minus_beta_2,
            weight_decay=scalars.shrink / rate if decays and rate else 0.0,
            eps=scalars.epsilon / scalars.root_scale,
            amsgrad=bool(vhat),
            maximize=False,
        )
    return left


def _servable(tensors: list[torch.Tensor]) -> bool:
    first = tensors[0]
    return first.dtype in (torch.float32, torch.float64) and all(
        t.dtype == first.dtype
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and t.is_contiguous()
        for t in tensors
    )


def _native(variable: Any) -> torch.Tensor | None:
    if variable is None:
        return None
    return variable.value.detach() if isinstance(variable, keras.Variable) else variable.detach()
