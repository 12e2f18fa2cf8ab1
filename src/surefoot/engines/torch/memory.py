"""Whether the memory of tensors may be handed to code that is not PyTorch's.

A tensor is more than an address: it may be negated or conjugated when it is read, represent zeros
without memory, be wrapped by a transformation or a mode, share memory with another one, or have
had its storage shrunk or exchanged behind Keras's back. This module is the one place that decides.
Tensors that it refuses are left to PyTorch's own operations, which know all that.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import torch

from surefoot.variables.variable import value_of

Column = Sequence[torch.Tensor]
"""One tensor of each row: all parameters, say, or all first moments."""

_WITH_MEMORY = frozenset({torch.Tensor, torch.nn.Parameter})
"""Other types may only stand for tensors that are elsewhere."""

_DTYPES = (torch.float32, torch.float64)


def held_tensor(variable: object) -> torch.Tensor:
    """A variable's tensor, past what Keras looks up each time it hands that out."""
    tensor: torch.Tensor | None = getattr(variable, "_value", variable)
    return value_of(variable) if tensor is None else tensor


def table_of(columns: Sequence[Column]) -> np.ndarray | None:
    """Where the numbers of some rows of tensors are, if they may be read and written there.

    Args:
        columns: Columns of equal length.

    Returns:
        For each row the addresses of its tensors and how many numbers each of them has, as
        integers. None if that is not so: unless all are contiguous tensors of one dtype, float32
        or float64, in this process's memory, those of a row of one shape, whose storage is there
        and is not shared with another of these tensors.
    """
    first = columns[0]
    dtype, shapes = first[0].dtype, list(map(_shape, first))
    tensors = list(itertools.chain(*columns))
    if dtype not in _DTYPES or list(map(_shape, tensors)) != shapes * len(columns):
        return None
    # Each question is asked of all tensors by a function of PyTorch: a function of ours called for
    # each of them would take longer than the step of a small model.
    if not (
        _WITH_MEMORY.issuperset(map(type, tensors))
        and {dtype}.issuperset(map(_dtype, tensors))
        and all(map(_is_cpu, tensors))
        and not any(map(torch.Tensor.is_neg, tensors))
    ):
        return None
    try:
        if not all(map(torch.Tensor.is_contiguous, tensors)):
            return None
        addresses = np.fromiter(map(torch.Tensor.data_ptr, tensors), np.int64, len(tensors))
        stored = map(torch.UntypedStorage.nbytes, map(torch.Tensor.untyped_storage, tensors))
        bytes_stored = np.fromiter(stored, np.int64, len(tensors))
    except (NotImplementedError, RuntimeError):  # sparse, or wrapped by `torch.func`
        return None
    offsets = np.fromiter(map(torch.Tensor.storage_offset, tensors), np.int64, len(tensors))
    numbers = np.fromiter(map(torch.Tensor.numel, first), np.int64, len(first))
    sizes = np.tile(numbers, len(columns)) * dtype.itemsize
    # Zeros without memory have the address 0.
    missing = (offsets * dtype.itemsize + sizes > bytes_stored) | (addresses == 0)
    if np.any(missing & (sizes > 0)) or _overlap(addresses, sizes):
        return None
    return np.ascontiguousarray(np.vstack([addresses.reshape(len(columns), -1), numbers]).T)


_shape, _dtype, _is_cpu = map(attrgetter, ("shape", "dtype", "is_cpu"))


def _overlap(starts: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether tensors share memory; then it matters which is read and written first."""
    starts, sizes = starts[sizes > 0], sizes[sizes > 0]
    order = np.argsort(starts)
    starts, ends = starts[order], (starts + sizes)[order]
    return bool(np.any(starts[1:] < ends[:-1]))


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
