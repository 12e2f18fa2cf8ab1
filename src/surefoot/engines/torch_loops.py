"""Loops on PyTorch, in place, called between its operations.

PyTorch is told what they change, so that a gradient which needs the values from before is an
error, as with its own operations in place.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.autograd.graph import increment_version

from surefoot.engines import compiled, plain, symbols, torch_kernels
from surefoot.engines.compiled import Loop
from surefoot.engines.language import WORD
from surefoot.engines.loops import Elementwise, Lines, Row, UnknownOperationError, rule
from surefoot.engines.machine_code import MachineCode
from surefoot.engines.symbols import Symbol
from surefoot.engines.torch_kernels import Column, Group, held_tensor
from surefoot.rule import Array, StepScalars

_WITH_MEMORY = (torch.Tensor, torch.nn.Parameter)
"""Other types may only stand for tensors that are elsewhere."""

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


class Table:
    """What a loop is told of the memory of some tensors: a row for each variable.

    Args:
        changed: Tensors that the loop changes, in columns of equal length.
        read: How many columns more it reads.
    """

    def __init__(self, changed: list[Column], read: int) -> None:
        self._changed = changed
        self._words = np.zeros((len(changed[0]), len(changed) + read + 1), np.int64)
        self._known: list[list[int]] = []

    def locate(self, read: list[Column]) -> bool:
        """Find the tensors; tell whether they are alike and have memory that may be used.

        Those that change are the same at each step. Only where they are is looked at then, and
        whether they are contiguous: transposed, they would be in the same place.
        """
        shapes = [t.shape for t in self._changed[0]]
        if not all(_are_usable(c, shapes, self._changed[0][0].dtype) for c in read):
            return False
        try:
            found = [[t.data_ptr() for t in column] for column in self._changed]
            others = [[t.data_ptr() for t in column] for column in read]
        except RuntimeError:  # as wrapped by `torch.func`
            return False
        if found != self._known:
            if not all(_are_usable(c, shapes, self._changed[0][0].dtype) for c in self._changed):
                return False
            self._known = found
            for place, addresses in enumerate(found):
                self._words[:, place] = addresses
        elif not all(t.is_contiguous() for column in self._changed for t in column):
            return False
        for place, addresses in enumerate(others, len(found)):
            self._words[:, place] = addresses
        self._words[:, -1] = [shape.numel() for shape in shapes]
        return True

    def run(self, loop: Loop, scalars: list[float]) -> None:
        """Run a loop on what has been located."""
        given = np.array(scalars, np.float64)
        _entry(loop).run(
            given.ctypes.data, self._words.ctypes.data, len(self._words), torch.get_num_threads()
        )
        for column in self._changed:
            increment_version(column)


def _are_usable(tensors: Column, shapes: list[torch.Size], dtype: torch.dtype) -> bool:
    """Whether a loop may use these tensors."""
    return (
        torch_kernels.are_alike(tensors, dtype)
        and [t.shape for t in tensors] == shapes
        and all(type(t) in _WITH_MEMORY for t in tensors)
    )


class _Entry(NamedTuple):
    """A function of C, and its code, which must be kept as long."""

    run: Callable[..., int]
    code: MachineCode


@functools.lru_cache(maxsize=64)
def _entry(loop: Loop) -> _Entry:
    """The loop as a function of C, compiled once."""
    code = compiled.handler(loop)
    return _Entry(ctypes.CFUNCTYPE(WORD, *[WORD] * 4)(code.address("run")), code)


@functools.cache
def _gather() -> _Entry:
    code = MachineCode(compiled.GATHER, {}, {})
    return _Entry(ctypes.CFUNCTYPE(WORD, *[WORD] * 5)(code.address("gather")), code)


def samples(tensors: Column, count: int) -> torch.Tensor | None:
    """``count`` numbers of each tensor, in rows, unless there is one that they cannot be read from.

    As operations of PyTorch this would be two for each tensor, twice a step.
    """
    usable = compiled.is_available() and torch_kernels.are_alike(tensors, torch.float32)
    if not (usable and all(type(t) in _WITH_MEMORY for t in tensors)):
        return None
    addresses = np.array([t.data_ptr() for t in tensors], np.int64)
    strides = np.array([plain.probe_stride(t.numel(), count) for t in tensors], np.int64)
    result = torch.empty(len(tensors), count)
    given = addresses.ctypes.data, strides.ctypes.data, len(tensors), count, result.data_ptr()
    _gather().run(*given)
    return result


def table_for(group: Group) -> Table:
    """A table of a group's variables and slots, and of their gradients."""
    slots = [group.m, group.v, *([group.vhat] if group.vhat else [])]
    return Table([group.parameters, *slots], 1)


def update(
    scalars: StepScalars, group: Group, table: Table, gradients: Column, clipvalue: float | None
) -> bool:
    """Update a group's variables, unless their memory is not such that a loop may."""
    if not table.locate([gradients]):
        return False
    if not group.decays:
        scalars = scalars._replace(shrink=0.0)
    dtype = group.parameters[0].dtype
    loop = _rule(dtype, bool(group.vhat), scalars.gradient_weight is not None, clipvalue)
    table.run(loop, [float(x) for x in scalars if x is not None])
    return True


@functools.lru_cache(maxsize=64)
def _rule(dtype: torch.dtype, amsgrad: bool, nesterov: bool, clipvalue: float | None) -> Loop:
    """The rule as a loop over parameter, m, v, perhaps vhat, and gradient."""
    lines = Lines(5 if amsgrad else 4, _DTYPES[dtype], "float64")
    kinds = dict.fromkeys(StepScalars._fields, _DTYPES[dtype]) | {"adaptive": "bool"}
    scalars = StepScalars(
        *(
            None
            if name == "gradient_weight" and not nesterov
            else Symbol(lines, lines.scalar(kind), dtype)
            for name, kind in kinds.items()
        )
    )
    step = rule(symbols, Symbol.to, symbols.clipped, scalars, clipvalue)
    numbers = [Symbol(lines, name, dtype) for name in lines.numbers]
    return lines.loop([new.name for new in step(*numbers)])


def servable(rows: list[Row]) -> list[bool]:
    """Whether a loop may take each of these rows."""
    possible = compiled.is_available()
    return [possible and _are_of_one_dtype([held_tensor(v) for v in row.variables]) for row in rows]


def _are_of_one_dtype(tensors: Column) -> bool:
    return tensors[0].dtype in _DTYPES and all(t.dtype is tensors[0].dtype for t in tensors)


def run(function: Elementwise, rows: list[Row], *, condition: Array | None = None) -> bool:
    """Give each row's variables their new values, if ``condition`` holds: see `Looping`."""
    if condition is not None and not condition:
        return True
    columns = [
        [held_tensor(v) for v in column]
        for column in zip(*(row.variables for row in rows), strict=True)
    ]
    dtype = columns[0][0].dtype
    lines = Lines(len(columns), _DTYPES[dtype], "float64")
    try:
        results = function(*(Symbol(lines, name, dtype) for name in lines.numbers))
    except UnknownOperationError:
        return False
    changed = len(rows[0].changed)
    table = Table(columns[:changed], len(columns) - changed)
    if not table.locate(columns[changed:]):
        return False
    table.run(lines.loop([new.name for new in results]), [])
    return True
