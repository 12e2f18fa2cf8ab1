"""Whether the memory of tensors may be handed to code that is not PyTorch's, on CPU and GPU.

A tensor is more than an address: it may be negated or conjugated when it is read, represent zeros
without memory, be wrapped by a transformation or a mode, share memory with another one, or have
had its storage shrunk or exchanged behind Keras's back. This module is the one place that decides.
Tensors that it refuses are left to PyTorch's own operations, which know all that.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.graph import increment_version

from surefoot.engines.loops import Columns
from surefoot.engines.torch.launches import note_other_work
from surefoot.variables.variable import value_of

Column = Sequence[torch.Tensor]
"""One tensor of each row: all parameters, say, or all first moments."""

_WITH_MEMORY = frozenset({torch.Tensor, torch.nn.Parameter})
"""Other types may only stand for tensors that are elsewhere."""

_DTYPES = (torch.float32, torch.float64)
_STORED_DTYPES = (*_DTYPES, torch.bfloat16, torch.int16)
_DEVICES = ("cpu", "cuda")


def held_tensor(variable: object) -> torch.Tensor:
    """A variable's tensor, past what Keras looks up each time it hands that out."""
    tensor: torch.Tensor | None = getattr(variable, "_value", variable)
    return value_of(variable) if tensor is None else tensor


def held_tensors(variables: Iterable[object]) -> list[torch.Tensor]:
    """The tensors of variables."""
    variables = list(variables)
    try:
        tensors = list(map(_held, variables))
    except AttributeError:  # some are tensors themselves
        return list(map(held_tensor, variables))
    is_missing = any(map(is_, tensors, itertools.repeat(None)))
    return list(map(held_tensor, variables)) if is_missing else tensors


def are_plain(tensors: Sequence[torch.Tensor], *, also_narrow: bool = False) -> bool:
    """Whether the numbers of all these tensors are what stands in memory, one behind the other.

    Tensors of several dtypes are not recognized, and bfloat16 ones only if ``also_narrow``.
    """
    if not tensors:
        return True
    dtypes = [tensors[0].dtype] if also_narrow else None
    return _kind_of([tensors], list(tensors), dtypes) is not None


def is_in_memory(tensor: torch.Tensor) -> bool:
    """Whether it is a tensor itself, and does not stand for one that is elsewhere."""
    return type(tensor) in _WITH_MEMORY


def table_of(
    columns: Sequence[Column],
    variables: Columns | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
) -> np.ndarray | None:
    """Where the numbers of some rows of tensors are, if they may be read and written there.

    Args:
        columns: Columns of equal length.
        dtypes: What the tensors of each column have to be. Defaults to one dtype for all.
        variables: Those whose tensors are the first columns: usually they are where they were in
            the step before.

    Returns:
        For each row the addresses of its tensors and how many numbers each of them has, as
        integers; the array of the step before if nothing has moved. None if that is not so: unless
        all are contiguous tensors of these dtypes, in this process's memory or on one CUDA device,
        those of a row of one shape, whose storage is there and is not shared with another of these
        tensors.
    """
    tensors = list(itertools.chain(*columns))
    # Each question is asked of all tensors by a function of PyTorch: a function of ours called for
    # each of them would take longer than the step of a small model.
    try:
        kind = _kind_of(columns, tensors, dtypes)
        if kind is None:
            return None
        known: _Known | None = None if variables is None else variables.known
        if known is not None and not known.resident.holds(tensors):
            known = None
        if known is None:
            note_other_work()
        first = 0 if known is None else len(known.resident.tensors)
        new = resident(tensors[first:], kind.sizes[first:], kind.itemsizes[first:])
    except (NotImplementedError, RuntimeError):  # sparse, or wrapped by `torch.func`
        return None
    if variables is not None and known is None:
        variables.known = None
    if new is None:
        return None
    if known is not None:
        if kind is known.kind and np.array_equal(new.addresses, known.others):
            return known.table
        addresses = np.concatenate([known.resident.addresses, new.addresses])
    else:
        addresses = new.addresses
    if overlap(addresses, kind.sizes):
        return None
    rows = addresses.reshape(len(columns), -1)
    table = np.ascontiguousarray(np.vstack([rows, kind.numbers]).T)
    if variables is not None:
        count = len(variables) * len(columns[0])
        own = new.first(count) if known is None else known.resident
        variables.known = _Known(own, addresses[count:], kind, table)
    return table


class _Known(NamedTuple):
    """What the step before has found out.

    Attributes:
        resident: The tensors of the variables.
        others: Where the numbers of the tensors behind them were.
        kind: Of all of them.
        table: What was made of that.
    """

    resident: Resident
    others: np.ndarray
    kind: _Kind
    table: np.ndarray


class Resident(NamedTuple):
    """Tensors whose numbers are in memory.

    Attributes:
        tensors: The tensors.
        addresses: Where their numbers are.
        storages: The storages. They are held, so that nothing else can be at these addresses.
        stored: The bytes of each storage.
    """

    tensors: list[torch.Tensor]
    addresses: np.ndarray
    storages: list[torch.UntypedStorage]
    stored: list[int]

    def first(self, count: int) -> Resident:
        """The first ones."""
        tensors, addresses, storages, stored = self
        return Resident(tensors[:count], addresses[:count], storages[:count], stored[:count])

    def holds(self, tensors: list[torch.Tensor]) -> bool:
        """Whether ``tensors`` begins with these, and all are where they were."""
        addresses = map(torch.Tensor.data_ptr, self.tensors)
        return (
            all(map(is_, self.tensors, tensors))
            and np.array_equal(np.fromiter(addresses, np.int64, len(self.tensors)), self.addresses)
            and list(map(torch.UntypedStorage.nbytes, self.storages)) == self.stored
        )


def resident(
    tensors: list[torch.Tensor], sizes: np.ndarray, itemsizes: np.ndarray
) -> Resident | None:
    """Tensors with their memory; None if some of it is missing."""
    count = len(tensors)
    addresses = np.fromiter(map(torch.Tensor.data_ptr, tensors), np.int64, count)
    storages = list(map(torch.Tensor.untyped_storage, tensors))
    stored = list(map(torch.UntypedStorage.nbytes, storages))
    offsets = np.fromiter(map(torch.Tensor.storage_offset, tensors), np.int64, count)
    # Zeros without memory have the address 0.
    missing = (offsets * itemsizes + sizes > stored) | (addresses == 0)
    if np.any(missing & (sizes > 0)):
        return None
    return Resident(tensors, addresses, storages, stored)


class _Kind(NamedTuple):
    """Tensors that may be handed over if they are where they should be.

    Attributes:
        itemsizes: The bytes of a number of every tensor.
        numbers: How many numbers the tensors of each row have.
        sizes: The bytes of every tensor.
    """

    itemsizes: np.ndarray
    numbers: np.ndarray
    sizes: np.ndarray


_kinds: dict[tuple[Any, ...], tuple[Callable[..., bool], _Kind]] = {}
"""Kinds that were found right, each with a function that recognizes tensors of it."""

_MOST_KINDS = 64


def _kind_of(
    columns: Sequence[Column],
    tensors: list[torch.Tensor],
    dtypes: Sequence[torch.dtype] | None = None,
) -> _Kind | None:
    """What kind of tensors these are, remembered from step to step; None if not of a right one."""
    first = columns[0]
    right = _DTYPES if dtypes is None else _STORED_DTYPES
    dtypes = tuple(dtypes or [first[0].dtype] * len(columns))
    # A guess by which to find it again; whether it is right is asked.
    key = len(columns), len(tensors), id(tensors[0]) if tensors else 0, dtypes
    known = _kinds.get(key)
    if known is not None and known[0](*tensors):
        return known[1]
    device, shapes = first[0].device, list(map(_shape, first))
    of_each = [dtype for dtype in dtypes for _ in first]
    if not (
        set(dtypes).issubset(right)
        and device.type in _DEVICES
        and list(map(_shape, tensors)) == shapes * len(columns)
        and _WITH_MEMORY.issuperset(map(type, tensors))
        and list(map(_dtype, tensors)) == of_each
        and {device}.issuperset(map(_device, tensors))
        and not any(map(torch.Tensor.is_neg, tensors))
        and not any(map(torch.Tensor._is_zerotensor, tensors))
        and all(map(torch.Tensor.is_contiguous, tensors))
    ):
        return None
    numbers = np.fromiter(map(torch.Tensor.numel, first), np.int64, len(first))
    itemsizes = np.array([dtype.itemsize for dtype in of_each])
    kind = _Kind(itemsizes, numbers, np.tile(numbers, len(columns)) * itemsizes)
    make_guard = guard_maker()
    if make_guard is not None:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        _kinds[key] = make_guard(tensors), kind
    return kind


@functools.cache
def guard_maker() -> Callable[[list[torch.Tensor]], Callable[..., bool]] | None:
    """A maker of functions that tell whether others are as some tensors were, or None.

    They compare types, dtypes, shapes, strides, devices and flags. `torch.compile` asks them before
    it runs what it has compiled. They are not public, and so are tried first: None if they do not
    notice all that counts here.
    """

    def make(tensors: list[torch.Tensor]) -> Callable[..., bool]:
        from torch._C._dynamo.guards import TensorGuards

        check: Callable[..., bool] = TensorGuards(
            *tensors,
            dynamic_dims_sizes=[list(t.shape) for t in tensors],
            dynamic_dims_strides=[list(t.stride()) for t in tensors],
        ).check
        return check

    one = torch.ones(2, 2)
    others = [
        *(one.double(), one.to(torch.int32), one.to("meta"), one.to_sparse()),
        *(one[:1], one[:, :1], one.T, one.expand(2, 2, 2), torch.ones(3, 2)),
        *(one._neg_view(), torch._efficientzerotensor((2, 2)), torch.nn.Parameter(one)),
    ]
    try:
        is_alike = make([one])
        notices = is_alike(torch.zeros(2, 2)) and not any(map(is_alike, others))
    except (ImportError, AttributeError, TypeError, RuntimeError, SystemError):
        return None
    return make if notices else None


_shape, _dtype, _device, _held = map(attrgetter, ("shape", "dtype", "device", "_value"))


def overlap(starts: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether tensors share memory; then it matters which is read and written first."""
    starts, sizes = starts[sizes > 0], sizes[sizes > 0]
    order = np.argsort(starts)
    starts, ends = starts[order], (starts + sizes)[order]
    return bool(np.any(starts[1:] < ends[:-1]))


def note_changed(columns: Iterable[Column]) -> None:
    """Tell PyTorch which tensors have been changed behind its back.

    A gradient that needs the values from before is then an error, as after its operations in place.
    """
    for column in columns:
        try:
            increment_version(column)
        except RuntimeError:  # tensors made in inference mode have no version
            increment_version([t for t in column if not t.is_inference()])


def require_memory(row: Sequence[torch.Tensor]) -> None:
    """Refuse a variable, its slots and its gradient if not even PyTorch could update them.

    Raises:
        RuntimeError: If one has another shape than the others, or its storage is gone.
    """
    for tensor in row:
        if tensor.shape != row[0].shape:
            raise RuntimeError(
                "A variable, its slots and its gradient must have one shape; something has "
                "exchanged the tensor of one of them. Received: the shapes "
                f"{tuple(row[0].shape)} and {tuple(tensor.shape)}"
            )
        if type(tensor) not in _WITH_MEMORY or tensor.layout is not torch.strided:
            continue
        try:
            size = tensor.untyped_storage().nbytes()
        except (NotImplementedError, RuntimeError):  # wrapped by `torch.func`: there is none
            continue
        last = sum(
            (n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)
        )
        needed = (tensor.storage_offset() + last + 1) * tensor.itemsize
        if tensor.numel() and size < needed and not tensor._is_zerotensor():
            raise RuntimeError(
                "The memory of a tensor is gone, as when a model is offloaded; put it back before "
                f"the step. Received: a tensor of shape {tuple(tensor.shape)} and dtype "
                f"{tensor.dtype} with {size} bytes of storage instead of {needed}"
            )
