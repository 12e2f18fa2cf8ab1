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

from surefoot.engines import plain
from surefoot.rule import StepScalars
from surefoot.slots import Tracked, value_of

Row = tuple[torch.Tensor, ...]


def held_tensor(variable: Any) -> torch.Tensor:
    """A variable's tensor, past what Keras looks up each time it hands that out."""
    tensor: torch.Tensor = getattr(variable, "_value", variable)
    return tensor


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
        _fits(kernel.one_minus_beta_1)
        and _fits(scalars.one_minus_beta_2)
        and 0.0 <= kernel.correction <= _LARGEST_CORRECTION
    )
    return kernel if fits else None


def _fits(complement: float) -> bool:
    rounded = 1.0 - float(np.float32(1.0 - complement))
    return abs(rounded - complement) <= plain.LARGEST_COMPLEMENT_ERROR * complement


class Group(NamedTuple):
    """Variables that one call of the kernel serves; each field is a list over them."""

    decays: bool
    indices: list[int]
    parameters: list[torch.Tensor]
    m: list[torch.Tensor]
    v: list[torch.Tensor]
    vhat: list[torch.Tensor]

    def rows(self, gradients: list[torch.Tensor]) -> Iterator[Row]:
        """The tensors of each variable: parameter, gradient, m, v and, if there is one, vhat."""
        streams = [self.parameters, gradients, self.m, self.v]
        return zip(*streams, *([self.vhat] if self.vhat else []), strict=True)


def groups(tracked: list[Tracked]) -> list[Group]:
    """Sort the variables that the kernel may serve by what it takes only once."""
    found: dict[tuple[torch.dtype, bool, bool], Group] = {}
    for index, entry in enumerate(tracked):
        # The tensors themselves, which stay the same when their storage is exchanged.
        tensors = [value_of(s) for s in (entry.variable, *entry.moments) if s is not None]
        dtype = tensors[0].dtype
        served = dtype in (torch.float32, torch.float64) and entry.master is None
        if not (served and are_alike(tensors, dtype)):
            continue
        group = found.setdefault(
            (dtype, entry.decays, entry.vhat is not None), Group(entry.decays, [], [], [], [], [])
        )
        for column, value in zip(group[1:], (index, *tensors), strict=False):
            column.append(value)
    return list(found.values())


def are_alike(tensors: list[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether the kernel takes these tensors."""
    strided = torch.strided
    return all(
        t.dtype is dtype and t.is_cpu and t.layout is strided and t.is_contiguous() for t in tensors
    )


def update(
    scalars: StepScalars, group: Group, gradients: list[torch.Tensor], clipvalue: float | None
) -> bool:
    """Update a group's variables, unless this is not the kernel's step, or not its tensors."""
    kernel = kernel_for(scalars)
    if kernel is None:
        return False
    dtype = group.parameters[0].dtype
    # Storage may have moved since the groups were made: to another device, say.
    if not (are_alike(gradients, dtype) and are_alike(group.parameters, dtype)):
        return False
    shrink = scalars.shrink if group.decays else 0.0
    if not kernel.correction and clipvalue is None:
        _run(kernel, scalars, shrink, gradients, *group[2:])
        return True
    # A part is below twice the cached size, since it grows by less than that at a time.
    room = None if clipvalue is None else torch.empty(2 * _CACHED, dtype=dtype)
    for part in _cached_parts(group.rows(gradients)):
        parameters, given, m, v, *vhat = map(list, zip(*part, strict=True))
        if clipvalue is not None and room is not None:
            given = _clamped(given, clipvalue, room)
        _run(kernel, scalars, shrink, given, parameters, m, v, *(vhat or [[]]))
        if kernel.correction:
            torch._foreach_lerp_(m, given, -kernel.correction)
    return True


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
    shrink: float,
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
        weight_decay=shrink / kernel.rate if kernel.rate else 0.0,
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


Column = list[torch.Tensor]


class Part(NamedTuple):
    """Some rows of tensors, by columns; a column that the rows do not have is None."""

    targets: list[Column]
    others: list[Column | None]

    def sources(self) -> list[torch.Tensor | None]:
        """What the targets' values are computed from, each column joined."""
        return [None if column is None else joined(column) for column in self.others]


def joined_parts(rows: list[list[list[Any]]]) -> Iterator[Part]:
    """Rows, each of targets and others, in parts whose temporaries stay in the cache.

    Large tensors go slice by slice, small ones together: for them the calls take longer than
    the arithmetic.
    """
    small: dict[tuple[Any, ...], list[list[torch.Tensor | None]]] = {}
    for targets, others in rows:
        row = [*targets, *others]
        given = [t for t in row if t is not None]
        if given[0].numel() <= FEW and all(t.is_contiguous() for t in given):
            # Where there is a master value, it is one target more.
            kinds = [None if t is None else (t.dtype, t.device) for t in row]
            small.setdefault((len(targets), *kinds), []).append(row)
            continue
        for slices in _cached_slices(row, FEW):
            yield _part([slices], len(targets))
    for (count, *_), alike in small.items():
        for together in _filled(alike, FEW):
            yield _part(together, count)


def _part(rows: Sequence[Sequence[torch.Tensor | None]], targets: int) -> Part:
    columns: list[Any] = [
        None if column[0] is None else list(column) for column in zip(*rows, strict=True)
    ]
    return Part(columns[:targets], columns[targets:])


def joined(column: Column) -> torch.Tensor:
    """The numbers of a column's tensors; of a single one, itself."""
    return column[0] if len(column) == 1 else torch.cat([t.view(-1) for t in column])


def copy_to(column: Column, values: torch.Tensor) -> None:
    """Write joined values back."""
    if len(column) == 1:
        column[0].copy_(values)
    else:
        torch._foreach_copy_(
            [t.view(-1) for t in column], values.split([t.numel() for t in column])
        )


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
