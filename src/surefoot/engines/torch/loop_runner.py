"""Compiled loops on PyTorch, called between its operations, on CPU and GPU."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import torch

from surefoot.engines import loops
from surefoot.engines.compiler import llvm, loop
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.compiler.representation import representation
from surefoot.engines.loops import Columns, Selection, StepPath
from surefoot.engines.torch import gpu
from surefoot.engines.torch.launches import note_other_work, note_tensors
from surefoot.engines.torch.memory import (
    held_tensor,
    held_tensors,
    note_changed,
    require_memory,
    table_of,
)


class Part(NamedTuple):
    """Rows of tensors of one device.

    Attributes:
        columns: The tensors, which are held for as long as a loop runs.
        table: Where their numbers are: see `surefoot.engines.torch.memory`; and the keys of rows.
        placed: The same in the memory of a GPU, or None.
    """

    columns: list[list[torch.Tensor]]
    table: np.ndarray
    placed: gpu.Placed | None


def obstacle(selection: Selection) -> Obstacle | None:
    """Why no loop can run: see `LoopRunner`."""
    devices = dict.fromkeys(part.columns[0][0].device for part in selection.arrays)
    return next((found for found in map(_obstacle_on, devices) if found is not None), None)


def _obstacle_on(device: torch.device) -> Obstacle | None:
    return gpu.obstacle(device) if gpu.is_gpu(device) else loop.obstacle("torch")


def step_path() -> StepPath:
    """How a step is made: see `LoopRunner`."""
    variable = held_tensor(keras.Variable(0.0, dtype="float32"))
    others = "plain operations"
    if variable.device.type == "cpu":
        others = f"fused kernel: PyTorch's AdamW where it computes the rule, else {others}"
    return loops.step_path(
        _obstacle_on(variable.device),
        others,
        served=table_of([[variable]]) is not None,
        device=str(variable.device),
        elsewhere="plain operations of PyTorch",
    )


def select(
    stored: Sequence[str], variables: Columns, tensors: Columns, keys: Sequence[int]
) -> Selection:
    """Find the memory of all rows: see `LoopRunner`; `surefoot.engines.torch.memory` decides.

    Raises:
        RuntimeError: If there is a row that PyTorch could not update, either.
    """
    dtypes = [getattr(torch, dtype) for dtype in stored]
    columns = [*map(held_tensors, variables), *tensors]
    part = _part(columns, dtypes, keys, variables)
    if part is not None:
        return Selection([True] * len(part.table), [part])
    rows = list(zip(*columns, strict=True))
    for row in rows:
        require_memory(row)
    # One by one; of those that overlap each other none.
    right = [table_of([[tensor] for tensor in row], None, dtypes) is not None for row in rows]
    served = [False] * len(rows)
    parts = []
    for device in dict.fromkeys(row[0].device for row in rows):
        indices = [i for i, row in enumerate(rows) if right[i] and row[0].device == device]
        chosen = [[column[i] for i in indices] for column in columns]
        part = _part(chosen, dtypes, [keys[i] for i in indices]) if indices else None
        if part is not None:
            parts.append(part)
            for i in indices:
                served[i] = True
    return Selection(served, parts)


def _part(
    columns: list[list[torch.Tensor]],
    dtypes: list[torch.dtype],
    keys: Sequence[int],
    variables: Columns | None = None,
) -> Part | None:
    found = table_of(columns, variables, dtypes)
    if found is None:
        return None
    table = _with_keys(found, keys, variables)
    device = columns[0][0].device
    if not gpu.is_gpu(device) or gpu.obstacle(device) is not None:
        return Part(columns, table, None)
    placed = gpu.place(table, device)
    return None if placed is None else Part(columns, table, placed)


def _with_keys(table: np.ndarray, keys: Sequence[int], variables: Columns | None) -> np.ndarray:
    """A table with the keys of its rows: the one of the step before if nothing has moved."""
    if variables is not None and variables.keyed is not None and variables.keyed[0] is table:
        return variables.keyed[1]
    keyed = np.ascontiguousarray(np.column_stack([table, np.array(keys, np.int64)]))
    if variables is not None:
        variables.keyed = table, keyed
    return keyed


def run(body: Loop, selection: Selection, scalars: Sequence[Any]) -> None:
    """Run a loop on what was selected: see `LoopRunner`."""
    for columns, table, placed in selection.arrays:
        if placed is None:
            note_other_work()
            given = np.array([float(x) for x in scalars], body.dtype)
            threads = torch.get_num_threads()
            _function(body)(given.ctypes.data, table.ctypes.data, len(table), threads)
        else:
            gpu.run(body, placed, scalars)
            note_tensors(columns, columns[: body.outputs])
        note_changed(columns[: body.outputs])


@functools.lru_cache(maxsize=64)
def _function(body: Loop) -> Callable[..., int]:
    # The interpreter's lock is held while a loop runs: no other Python thread can shrink, exchange
    # or free what the table points to. The loop's own threads need no lock.
    address = llvm.address(representation(body), "run")
    return ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(address)
