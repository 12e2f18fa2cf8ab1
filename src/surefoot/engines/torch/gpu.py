"""Steps on a CUDA device: the scalars in one kernel, all tensors in another.

Nothing here waits for the device, and all is in the order of PyTorch's current stream, so that a
step can be a part of a CUDA graph. What a step depends on stays in the device's memory: its number,
the learning rate and the hyperparameters, and whether there is a step at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from surefoot.engines.compiler import triton_kernels
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.compiler.triton_kernels import BLOCK, WARPS
from surefoot.engines.torch.launches import launch, note_other_work
from surefoot.engines.torch.memory import table_of

_ALIGNED = 16
"""Bytes that a thread reads at once, where all arrays begin at a multiple of that."""

_LEAST_ALIGNED = 2
"""Bytes of the smallest number."""

_MOST_TABLES = 64


def is_gpu(device: torch.device) -> bool:
    """Whether kernels run on a device."""
    return device.type == "cuda"


def is_host(device: torch.device) -> bool:
    """Whether the host reads a device's memory without waiting."""
    return device.type == "cpu" and not is_gpu(device)


def is_current(device: torch.device) -> bool:
    """Whether kernels run there where nothing else is said."""
    return device.type != "cuda" or torch.cuda.current_device() == device.index


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def current_stream(device: torch.device) -> int:
    """The stream on which kernels run."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def obstacle(device: torch.device) -> Obstacle | None:
    """Why steps on a CUDA device are left to operations of PyTorch, or None."""
    if torch.version.hip is not None:
        return Obstacle("the kernels have not been tested on AMD's GPUs")
    found = triton_kernels.obstacle()
    if found is None and device not in _tried:
        if torch.cuda.is_current_stream_capturing():
            return Obstacle("a CUDA graph is captured before the first step")
        _tried[device] = _trial(device)
    return found or _tried[device]


_tried: dict[torch.device, Obstacle | None] = {}


def _trial(device: torch.device) -> Obstacle | None:
    """Run a small loop: there may be no C compiler, which Triton needs, or an old GPU.

    This alone waits for the device, before the first step.
    """
    waiting_is = torch.cuda.get_sync_debug_mode()
    if waiting_is:  # a warning or an error, since the user looks for what waits in steps
        torch.cuda.set_sync_debug_mode("default")
    numbers = torch.arange(3.0, device=device)
    try:
        table = table_of([[numbers]])
        if table is not None:
            placed = place(np.column_stack([table, [0]]), device)
            trial = Loop(_multiplied, "float32", scalars=1, stored=("float32",), outputs=1)
            if placed is not None:
                run(trial, placed, [2.0])
        found = numbers.tolist()
    except Exception as error:  # of Triton, of a compiler, of the driver
        return Obstacle(f"Triton fails on {device} ({type(error).__name__}: {error})")
    finally:
        if waiting_is:
            torch.cuda.set_sync_debug_mode(waiting_is)
    if found != [0.0, 2.0, 4.0]:
        return Obstacle(f"a trial of Triton on {device} gave wrong numbers")
    return None


def _multiplied(
    xp: Any, scalars: Sequence[Any], numbers: Sequence[Any], position: Any
) -> list[Any]:
    del xp, position
    return [scalars[0] * numbers[0]]


# Loops.


class Placed(NamedTuple):
    """Where the numbers of rows of tensors are, as kernels read it.

    Attributes:
        host_table: For each row the addresses of its tensors, how many numbers each has, and its
            key.
        table: The same on the device, int64.
        programs: Int32; for each program of a kernel its row, and its block in that row.
        alignment: Of all addresses, in bytes.
    """

    host_table: np.ndarray
    table: torch.Tensor
    programs: torch.Tensor
    alignment: int


# Tables that are on a device already, by stream: what one stream has uploaded, another one may see
# too early. Gradients are often where they were in the step before.
_tables: dict[Any, tuple[np.ndarray, Placed]] = {}
_programs: dict[Any, torch.Tensor] = {}

# Memory of the host from which graphs upload tables at each replay; it can be allocated only while
# no graph is being captured. What graphs use has to stay for as long as the process runs.
_spare: dict[Any, torch.Tensor] = {}
_captured: list[Any] = []


def place(table: np.ndarray, device: torch.device) -> Placed | None:
    """Upload a table of addresses, numbers and keys of rows.

    Returns:
        None if a graph is being captured before such a step has been made outside of it.
    """
    with on(device):
        if is_capturing(device):
            return _placed_in_graph(table, device)
        stream = current_stream(device)
        key = device, stream, *_name(table)
        known = _tables.get(key)
        if known is not None and (known[0] is table or np.array_equal(known[0], table)):
            return known[1]
        if len(_tables) >= _MOST_TABLES:
            _tables.clear()
            _programs.clear()
            _spare.clear()
        numbers = table[:, -2]
        program_key = device, stream, numbers.tobytes()
        programs = _programs.get(program_key)  # once: another thread may clear them
        if programs is None:
            programs = _programs[program_key] = _uploaded(_programs_for(numbers), device)
        if _name(table) not in _spare and device.type == "cuda":
            _spare[_name(table)] = torch.empty(table.shape, dtype=torch.int64, pin_memory=True)
        placed = Placed(table, _uploaded(table, device), programs, _alignment(table))
        _tables[key] = table, placed
        return placed


def _name(table: np.ndarray) -> tuple[Any, ...]:
    """By which to find a table again that may be the same."""
    return table.shape, int(table[0, 0]), int(table[0, 1])


def _placed_in_graph(table: np.ndarray, device: torch.device) -> Placed | None:
    numbers = table[:, -2].tobytes()
    uploaded = list(_programs.items())
    programs = next((p for (d, _, n), p in uploaded if (d, n) == (device, numbers)), None)
    memory = _spare.pop(_name(table), None)
    if programs is None or memory is None:
        return None
    memory.copy_(torch.from_numpy(table))
    placed = Placed(table, memory.to(device, non_blocking=True), programs, _alignment(table))
    _captured.append((memory, placed))
    return placed


def _uploaded(table: np.ndarray, device: torch.device) -> torch.Tensor:
    memory = torch.from_numpy(table)
    if device.type == "cuda":  # from pageable memory the host would wait
        memory = memory.pin_memory()
    return memory.to(device, non_blocking=True)


def _programs_for(numbers: np.ndarray) -> np.ndarray:
    blocks = -(-numbers // BLOCK)
    rows = np.repeat(np.arange(len(numbers)), blocks)
    first = np.cumsum(blocks) - blocks
    return np.stack([rows, np.arange(len(rows)) - first[rows]], axis=1).astype(np.int32)


def _alignment(table: np.ndarray) -> int:
    return _LEAST_ALIGNED if np.any(table[:, :-2] % _ALIGNED) else _ALIGNED


@dataclass(frozen=True)
class LoopLaunch:
    """A loop with what it is given; it can be launched any number of times.

    Attributes:
        body: The loop.
        placed: The rows.
        scalars: In the device's memory: see `_vector`.
    """

    body: Loop
    placed: Placed
    scalars: torch.Tensor

    def with_addresses(self, old: np.ndarray, new: np.ndarray) -> LoopLaunch:
        """The same where tensors have moved: see `Movable`."""
        table = self.placed.host_table
        places = np.searchsorted(old, table[:, :-2]).clip(max=len(old) - 1)
        is_moved = old[places] == table[:, :-2]
        if not is_moved.any():
            return self
        table = table.copy()
        table[:, :-2] = np.where(is_moved, new[places], table[:, :-2])
        placed = place(table, self.placed.table.device)
        assert placed is not None  # no graph is being captured
        return replace(self, placed=placed)

    def __call__(self) -> None:
        """Launch it."""
        placed = self.placed
        triton_kernels.loop_kernel(self.body)[(len(placed.programs),)](
            placed.table,
            placed.programs,
            self.scalars,
            ALIGNMENT=placed.alignment,
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )


def run(body: Loop, placed: Placed, scalars: Sequence[torch.Tensor | float]) -> None:
    """Run a loop on rows of tensors."""
    device = placed.table.device
    if not len(placed.programs):
        return
    with on(device):
        launch(LoopLaunch(body, placed, _vector(scalars, device)))


def _vector(scalars: Sequence[torch.Tensor | float], device: torch.device) -> torch.Tensor:
    """Scalars in float64, one behind the other in the device's memory."""
    first = scalars[0]
    if isinstance(first, torch.Tensor) and first.dtype == torch.float64:
        start = first.data_ptr()
        if all(
            isinstance(x, torch.Tensor) and x.data_ptr() == start + 8 * i
            for i, x in enumerate(scalars)
        ):
            return first.as_strided((len(scalars),), (1,))
    note_other_work()
    return torch.stack([on_device(x, device) for x in scalars])


def on_device(value: Any, device: torch.device) -> torch.Tensor:
    """A scalar in float64, without waiting where it is a number or there already."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, torch.float64, non_blocking=True)
    return torch.full((), float(value), dtype=torch.float64, device=device)


def on(device: torch.device) -> AbstractContextManager[Any]:
    """A scope in which kernels run on ``device``."""
    return nullcontext() if is_current(device) else torch.cuda.device(device)


# Whether there is a step.

_condition: ContextVar[torch.Tensor | None] = ContextVar("condition", default=None)


def condition() -> torch.Tensor | None:
    """1 if the present step is to be made and 0 if not, in the device's memory; None: it is."""
    return _condition.get()


@contextmanager
def where(holds: torch.Tensor) -> Iterator[None]:
    """Make steps only where a condition holds, which is not read."""
    outer = _condition.get()
    # Apple's GPUs have no float64.
    both = holds.to(torch.float64 if holds.device.type == "cuda" else torch.float32)
    token = _condition.set(both if outer is None else both * outer)
    try:
        yield
    finally:
        _condition.reset(token)
