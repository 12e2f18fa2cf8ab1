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

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import torch

from surefoot.rule import StepScalars
from surefoot.slots import Tracked

Pairs = list[tuple[Tracked, Any]]
Row = tuple[torch.Tensor, ...]

# The kernel rounds beta to float32 and multiplies: off by 1.3e-5 of 1 - beta for
# 0.999, by 1.4e-3 for 0.99999. Half of that is the step's relative error.
_LARGEST_COMPLEMENT_ERROR = 2.0**-15

# Taking the moment to its value enlarges its rounding error by 1 + 2 a / b.
_LARGEST_CORRECTION = 4.0

_NO_BIAS_CORRECTION = torch.tensor(float("inf"))

# Numbers per stream that stay in the processor's cache from one kernel to the next.
_CACHED = 1 << 19


class _Kernel(NamedTuple):
    """The rule's scalars as the kernel's: its rate, its 1 - beta_1, and a / b."""

    rate: float
    one_minus_beta_1: float
    correction: float


def is_rule(scalars: StepScalars) -> bool:
    """Whether the kernel computes this step: all of it known on the host."""
    if scalars.adaptive is not True or not all(
        isinstance(x, float) for x in (scalars.moment_weight, scalars.shrink)
    ):
        return False
    kernel = _kernel(scalars)
    return (
        kernel is not None
        and _fits(kernel.one_minus_beta_1)
        and _fits(scalars.one_minus_beta_2)
        and 0.0 <= kernel.correction <= _LARGEST_CORRECTION
    )


def _kernel(scalars: StepScalars) -> _Kernel | None:
    a, b = scalars.gradient_weight, scalars.moment_weight
    complement = scalars.one_minus_beta_1
    if a is None:
        return _Kernel(b / scalars.root_scale, complement, 0.0)
    if b <= 0.0:
        return None
    complement = (a + b * complement) / (a + b)
    return _Kernel((a + b) / scalars.root_scale, complement, a / b)


def _fits(complement: float) -> bool:
    rounded = 1.0 - float(np.float32(1.0 - complement))
    return abs(rounded - complement) <= _LARGEST_COMPLEMENT_ERROR * complement


def update(scalars: StepScalars, pairs: Pairs) -> Pairs:
    """Update the variables that the kernel serves; return the others."""
    groups: dict[tuple[torch.dtype, bool], list[Row]] = {}
    left = []
    for tracked, gradient in pairs:
        tensors = [_native(tracked.variable), gradient, *map(_native, tracked.moments)]
        tensors = [t for t in tensors if t is not None]
        if tracked.master is None and _servable(tensors):
            groups.setdefault((tensors[0].dtype, tracked.decays), []).append(tuple(tensors))
        else:
            left.append((tracked, gradient))
    kernel = _kernel(scalars)
    assert kernel is not None, "`is_rule` was asked before"
    for (_, decays), rows in groups.items():
        shrink = scalars.shrink if decays else 0.0
        if not kernel.correction:
            _run(kernel, scalars, shrink, rows)
            continue
        for part in _cached_parts(rows):
            _run(kernel, scalars, shrink, part)
            _, gradients, m, *_ = map(list, zip(*part, strict=True))
            torch._foreach_lerp_(m, gradients, -kernel.correction)
    return left


def _run(kernel: _Kernel, scalars: StepScalars, shrink: float, rows: list[Row]) -> None:
    parameters, gradients, m, v, *vhat = map(list, zip(*rows, strict=True))
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + eps, so divide by s.
    torch._fused_adamw_(
        parameters,
        gradients,
        m,
        v,
        vhat[0] if vhat else [],
        [_NO_BIAS_CORRECTION] * len(parameters),
        lr=kernel.rate,
        beta1=1.0 - kernel.one_minus_beta_1,
        beta2=1.0 - scalars.one_minus_beta_2,
        weight_decay=shrink / kernel.rate if kernel.rate else 0.0,
        eps=scalars.epsilon / scalars.root_scale,
        amsgrad=bool(vhat),
        maximize=False,
    )


def _cached_parts(rows: list[Row]) -> Iterator[list[Row]]:
    """Group the tensors, and slices of large ones, to what the cache holds."""
    part: list[Row] = []
    size = 0
    for row in rows:
        if row[0].numel() > _CACHED:
            slices = [tensor.view(-1).split(_CACHED) for tensor in row]
            yield from ([piece] for piece in zip(*slices, strict=True))
            continue
        part.append(row)
        size += row[0].numel()
        if size >= _CACHED:
            yield part
            part, size = [], 0
    if part:
        yield part


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
