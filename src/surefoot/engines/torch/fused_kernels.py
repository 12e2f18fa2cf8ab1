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

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from surefoot.engines import loops, plain
from surefoot.engines.torch.memory import held_tensor, table_of
from surefoot.rule.update import StepScalars

Row = tuple[torch.Tensor, ...]


AnyRow = TypeVar("AnyRow", bound=Sequence[Any])

# Taking the moment to its value enlarges its rounding error by 1 + 2 a / b.
_LARGEST_CORRECTION = 4.0

_NO_BIAS_CORRECTION = torch.tensor(float("inf"))

# Numbers per stream that stay in the processor's cache from one kernel to the next.
_CACHED = 1 << 19

FEW = 1 << 17
"""Numbers whose temporaries stay in the cache, too, and are not asked of the system anew."""


class Kernel(NamedTuple):
    """The rule's scalars as the kernel's: its rate, its 1 - beta_1, and a / b."""

    rate: float
    one_minus_beta_1: float
    correction: float


def kernel_for(scalars: StepScalars) -> Kernel | None:
    """The kernel's scalars, of numbers on the host, if it computes this step; else None."""
    a, b, complement = scalars.gradient_weight, scalars.moment_weight, scalars.one_minus_beta_1
    if scalars.adaptive is not True:
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
    return abs(rounded - complement) <= plain.LARGEST_COMPLEMENT_ERROR * complement


class Group(NamedTuple):
    """Variables that one call of the kernel serves; each field is a list over them."""

    parameters: list[torch.Tensor]
    m: list[torch.Tensor]
    v: list[torch.Tensor]
    vhat: list[torch.Tensor]

    def rows(self, gradients: list[torch.Tensor]) -> Iterator[Row]:
        """The tensors of each variable: parameter, gradient, m, v and, if there is one, vhat."""
        streams = [self.parameters, gradients, self.m, self.v]
        return zip(*streams, *([self.vhat] if self.vhat else []), strict=True)


def update(
    groups: list[loops.Group],
    scalars: StepScalars,
    gradients: list[torch.Tensor],
    clipvalue: float | None,
    done: set[int],
) -> set[int]:
    """Update what the kernel serves, but not what is ``done``; return the indices of these."""
    served: set[int] = set()
    if kernel_for(scalars) is None:
        return served
    for group in groups:
        places = [p for p, index in enumerate(group.indices) if index not in done]
        indices = [group.indices[p] for p in places]
        columns = [[held_tensor(column[p]) for p in places] for column in group.variables]
        given = [gradients[i] for i in indices]
        # The kernel looks at no shapes, and at no flags of a tensor.
        if places and table_of([*columns, given]) is not None:
            own = scalars if group.decays else scalars._replace(shrink=0.0)
            kernel_group = Group(*columns, *([] if group.amsgrad else [[]]))
            _update_group(own, kernel_group, given, clipvalue)
            served.update(indices)
    return served


def _update_group(
    scalars: StepScalars, group: Group, gradients: list[torch.Tensor], clipvalue: float | None
) -> None:
    kernel = kernel_for(scalars)
    assert kernel is not None
    dtype = group.parameters[0].dtype
    if not kernel.correction and clipvalue is None:
        _run(kernel, scalars, gradients, *group)
        return
    # A part is below twice the cached size, since it grows by less than that at a time.
    room = None if clipvalue is None else torch.empty(2 * _CACHED, dtype=dtype)
    for part in _cached_parts(group.rows(gradients)):
        parameters, given, m, v, *vhat = map(list, zip(*part, strict=True))
        if clipvalue is not None and room is not None:
            given = _clamped(given, clipvalue, room)
        _run(kernel, scalars, given, parameters, m, v, *(vhat or [[]]))
        if kernel.correction:
            torch._foreach_lerp_(m, given, -kernel.correction)


def _clamped(gradients: list[torch.Tensor], bound: float, room: torch.Tensor) -> list[torch.Tensor]:
    """The gradients clipped by value; large ones in ``room``, not in memory of their own."""
    if len(gradients) > 1 and sum(g.numel() for g in gradients) <= FEW * len(gradients):
        clamped = list(torch._foreach_clamp_max(gradients, bound))
        torch._foreach_clamp_min_(clamped, -bound)
        return clamped
    places = room[: sum(g.numel() for g in gradients)].split([g.numel() for g in gradients])
    clamped = [place.view(g.shape) for place, g in zip(places, gradients, strict=True)]
    for gradient, out in zip(gradients, clamped, strict=True):
        torch.clamp(gradient, -bound, bound, out=out)
    return clamped


def _run(
    kernel: Kernel,
    scalars: StepScalars,
    gradients: list[torch.Tensor],
    parameters: list[torch.Tensor],
    m: list[torch.Tensor],
    v: list[torch.Tensor],
    vhat: list[torch.Tensor],
) -> None:
    # d = s sqrt(v) + eps: the kernel's d is sqrt(v) + eps, so divide by s.
    torch._fused_adamw_(
        parameters,
        gradients,
        m,
        v,
        vhat,
        [_NO_BIAS_CORRECTION] * len(parameters),
        lr=kernel.rate,
        beta1=1.0 - kernel.one_minus_beta_1,
        beta2=1.0 - scalars.one_minus_beta_2,
        weight_decay=scalars.shrink / kernel.rate if kernel.rate else 0.0,
        eps=scalars.epsilon / scalars.root_scale,
        amsgrad=bool(vhat),
        maximize=False,
    )


def _cached_slices(row: Sequence[Any], size: int = _CACHED) -> Iterator[tuple[Any, ...]]:
    """Tensors of one shape, or None; large ones in slices of ``size`` numbers."""
    given = [tensor for tensor in row if tensor is not None]
    if given[0].numel() <= size or not all(t.is_contiguous() for t in given):
        return iter([tuple(row)])
    none = itertools.repeat(None)
    return zip(*(none if t is None else t.view(-1).split(size) for t in row), strict=False)


def _filled(rows: Sequence[AnyRow], size: int) -> Iterator[list[AnyRow]]:
    """Rows of small tensors, in parts of some more numbers than ``size``."""
    part: list[AnyRow] = []
    filled = 0
    for row in rows:
        part.append(row)
        filled += row[0].numel()
        if filled >= size:
            yield part
            part, filled = [], 0
    if part:
        yield part


def _cached_parts(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Group the tensors, and slices of large ones, to what the cache holds."""
    small: list[Row] = []
    for row in rows:
        if row[0].numel() > _CACHED:
            yield from ([piece] for piece in _cached_slices(row))
        else:
            small.append(row)
    yield from _filled(small, _CACHED)
