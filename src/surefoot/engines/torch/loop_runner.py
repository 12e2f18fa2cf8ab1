"""Compiled loops on PyTorch, called between its operations."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch

from surefoot.engines import loops
from surefoot.engines.compiler import llvm, loop
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.loops import Columns, Selection, StepPath
from surefoot.engines.torch.memory import held_tensor, note_changed, require_memory, table_of


def obstacle() -> Obstacle | None:
    """Why no loop can run: see `LoopRunner`."""
    return loop.obstacle("torch")


def step_path() -> StepPath:
    """How a step is made: see `LoopRunner`."""
    variable = keras.Variable(0.0, dtype="float32")
    return loops.step_path(
        obstacle(),
        others=("fused kernel: PyTorch's AdamW where it computes the rule, else plain operations"),
        served=select("float32", [[variable]], []).served[0],
        device=str(held_tensor(variable).device),
        elsewhere="plain operations of PyTorch",
    )


def select(dtype: str, variables: Columns, tensors: Columns) -> Selection:
    """Find the memory of all rows: see `LoopRunner`; `surefoot.engines.torch.memory` decides.

    Raises:
        RuntimeError: If there is a row that PyTorch could not update, either.
    """
    del dtype
    # The columns hold the tensors for as long as the loop runs.
    columns = [*([held_tensor(v) for v in column] for column in variables), *tensors]
    table = table_of(columns)
    if table is not None:
        return Selection([True] * len(table), (columns, table))
    rows = list(zip(*columns, strict=True))
    for row in rows:
        require_memory(row)
    # One by one; of those that overlap each other none.
    served = [table_of([[tensor] for tensor in row]) is not None for row in rows]
    chosen = [[t for t, s in zip(column, served, strict=True) if s] for column in columns]
    table = table_of(chosen) if any(served) else None
    return Selection(served if table is not None else [False] * len(rows), (chosen, table))


def run(body: Loop, selection: Selection, scalars: Sequence[Any]) -> None:
    """Run a loop on what was selected: see `LoopRunner`."""
    columns, table = selection.arrays
    given = np.array([float(x) for x in scalars], body.dtype)
    _function(body)(given.ctypes.data, table.ctypes.data, len(table), torch.get_num_threads())
    note_changed(columns[: body.outputs])


@functools.lru_cache(maxsize=64)
def _function(body: Loop) -> Callable[..., int]:
    # The interpreter's lock is held while a loop runs: no other Python thread can shrink, exchange
    # or free what the table points to. The loop's own threads need no lock.
    address = llvm.address(body.representation(), "run")
    return ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(address)
