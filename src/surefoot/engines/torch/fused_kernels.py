"""The rule by PyTorch's fused AdamW kernel: one pass over memory.

The kernel *is* the rule where Nesterov momentum is zero and the step is
adaptive; a step count beyond all powers switches its own bias correction off.

With Nesterov momentum the numerator is ``a g + b m`` with ``m`` after its
update, which is ``a + b`` times what the kernel would make of ``m`` with a
smaller ``beta_1``, namely ``beta_1 b / (a + b)``. So the kernel moves the
parameter, and the moment it leaves behind is taken to the right one by
``m <- m + (a / b) (m - g)``, while both are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from surefoot.engines import loops
from surefoot.engines.torch.memory import held_tensor, note_changed, table_of
from surefoot.rule.update import ABSENT, StepScalars

Row = tuple[torch.Tensor, ...]

# The kernel takes beta, rounded to float32, and forms 1 - beta from it: off by 1.3e-5 of it for
# 0.999, by 1.4e-3 for 0.99999. Half of that is the step's relative error.
_LARGEST_COMPLEMENT_ERROR = 2.0**-15

# Taking the moment to its value enlarges its rounding error by 1 + 2 a / b.
_LARGEST_CORRECTION = 4.0

_NO_BIAS_CORRECTION = torch.tensor(float("inf"))

# Numbers per tensor that stay in the processor's cache from one kernel to the next.
_CACHED = 1 << 19


class Kernel(NamedTuple):
    """The rule's scalars as the kernel's: its rate, its 1 - beta_1, and a / b."""

    rate: float
    one_minus_beta_1: float
    correction: float


def kernel_for(scalars: StepScalars) -> Kernel | None:
    """The kernel's scalars, of numbers on the host, if it computes this step; else None."""
    a, b, complement = scalars.gradient_weight, scalars.moment_weight, scalars.one_minus_beta_1
    others = (getattr(scalars, name) for name in ABSENT)
    if scalars.adaptive is not True or any(other is not None for other in others):
        return None
    if a is None:
        kernel = Kernel(b / scalars.root_scale, complement, 0.0)
    elif b <= 0.0:
        return None
    else:
        complement = (a + b * complement) / (a + b)
        kernel = Kernel((a + b) / scalars.root_scale, complement, a / b)
    fits = (
        # The kernel divides by 0 where the root of a moment and epsilon are 0.
        scalars.epsilon > np.finfo("float32").tiny
        and _fits(kernel.one_minus_beta_1)
        and _fits(scalars.one_minus_beta_2)
        and 0.0 <= kernel.correction <= _LARGEST_CORRECTION
    )
    return kernel if fits else None


def _fits(complement: float) -> bool:
    rounded = 1.0 - float(np.float32(1.0 - complement))
    return abs(rounded - complement) <= _LARGEST_COMPLEMENT_ERROR * complement


def update(
    groups: list[loops.Group],
    scalars: StepScalars,
    gradients: list[torch.Tensor],
    clipvalue: float | None,
    done: set[int],
) -> set[int]:
    """Update what the kernel serves, but not what is ``done``; return the indices of these."""
    served: set[int] = set()
    kernel = kernel_for(scalars)
    if kernel is None:
        return served
    for group in groups:
        places = [p for p, index in enumerate(group.indices) if index not in done]
        indices = [group.indices[p] for p in places]
        parameters, *moments = (
            [held_tensor(column[p]) for p in places] for column in group.variables
        )
        columns = [parameters, [gradients[i] for i in indices], *moments]
        # The kernel looks at no shapes, and at no flags of a tensor.
        if places and table_of(columns) is not None:
            own = scalars.for_variable(decays=group.decays)
            _update_columns(kernel, own, columns, clipvalue)
            note_changed([parameters, *moments])  # which not every version of the kernel does
            served.update(indices)
    return served


def _update_columns(
    kernel: Kernel, scalars: StepScalars, columns: list[list[torch.Tensor]], bound: float | None
) -> None:
    """Update columns of parameters, gradients, m, v and perhaps vhat."""
    if not kernel.correction and bound is None:
        _run(kernel, scalars, *columns)
        return
    for part in _cached_parts(zip(*columns, strict=True)):
        parameters, gradients, m, *others = map(list, zip(*part, strict=True))
        if bound is not None:
            gradients = list(torch._foreach_clamp_max(gradients, bound))
            torch._foreach_clamp_min_(gradients, -bound)
        _run(kernel, scalars, parameters, gradients, m, *others)
        if kernel.correction:
            torch._foreach_lerp_(m, gradients, -kernel.correction)


def _run(
    kernel: Kernel,
    scalars: StepScalars,
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    m: list[torch.Tensor],
    v: list[torch.Tensor],
    vhat: list[torch.Tensor] | None = None,
) -> None:
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + eps, so divide by s.
    torch._fused_adamw_(
        parameters,
        gradients,
        m,
        v,
        vhat or [],
        [_NO_BIAS_CORRECTION] * len(parameters),
        lr=kernel.rate,
        beta1=1.0 - kernel.one_minus_beta_1,
        beta2=1.0 - scalars.one_minus_beta_2,
        weight_decay=scalars.shrink / kernel.rate if kernel.rate else 0.0,
        eps=scalars.epsilon / scalars.root_scale,
        amsgrad=vhat is not None,
        maximize=False,
    )


def _cached_parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows of small tensors together, and large ones in slices, so that the cache holds a part."""
    part: list[Row] = []
    filled = 0
    for row in rows:
        size = row[0].numel()
        pieces = (
            [row]
            if size <= _CACHED
            else zip(*(t.view(-1).split(_CACHED) for t in row), strict=True)
        )
        for piece in pieces:
            part.append(piece)
            filled += piece[0].numel()
            if filled >= _CACHED:
                yield part
                part, filled = [], 0
    if part:
        yield part
