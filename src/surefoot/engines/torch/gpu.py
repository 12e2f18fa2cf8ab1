"""Steps on a CUDA device: the scalars in one kernel, all tensors in another.

Nothing here waits for the device, and all is in the order of PyTorch's current stream, so that a
step can be a part of a CUDA graph. What a step depends on stays in the device's memory: its number,
the learning rate and the hyperparameters, and whether there is a step at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import numpy as np
import torch

from surefoot.engines.compiler import triton_kernels
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.compiler.symbols import LoopBuilder, Symbol
from surefoot.engines.compiler.triton_kernels import BLOCK, TRITON, WARPS
from surefoot.engines.torch.memory import held_tensor
from surefoot.rule.update import StepScalars

_ALIGNED = 16
"""Bytes that a thread reads at once, where all arrays begin at a multiple of that."""

_MOST_TABLES = 64


def obstacle() -> Obstacle | None:
    """Why steps on a CUDA device are left to operations of PyTorch, or None."""
    if torch.version.hip is not None:
        return Obstacle("the kernels have not been tested on AMD's GPUs")
    return triton_kernels.obstacle()


# Loops.


class Placed(NamedTuple):
    """Where the numbers of rows of tensors are, as kernels read it.

    Attributes:
        table: Int64; for each row the addresses of its tensors, and how many numbers each has.
        programs: Int32; for each program of a kernel its row, and its block in that row.
        alignment: Of all addresses, in bytes.
    """

    table: torch.Tensor
    programs: torch.Tensor
    alignment: int


# Tables that are on a device already, by stream: what one stream has uploaded, another one may see
# too early. Gradients are often where they were in the step before.
_tables: dict[Any, tuple[np.ndarray, Placed]] = {}
_programs: dict[Any, torch.Tensor] = {}

# Memory of the host from which graphs upload tables at each replay; it can be allocated only while
# no graph is being captured. What graphs use has to stay for as long as the process runs.
_spare: dict[tuple[int, ...], torch.Tensor] = {}
_captured: list[Any] = []


def place(table: np.ndarray, device: torch.device) -> Placed | None:
    """Upload a table of addresses; see `surefoot.engines.torch.memory.table_of`.

    Returns:
        None if a graph is being captured before such a step has been made outside of it.
    """
    with _on(device):
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return _placed_in_graph(table, device)
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        key = device, stream, table.shape, int(table[0, 0])
        known = _tables.get(key)
        if known is not None and np.array_equal(known[0], table):
            return known[1]
        if len(_tables) >= _MOST_TABLES:
            _tables.clear()
            _programs.clear()
        numbers = table[:, -1]
        program_key = device, stream, numbers.tobytes()
        if program_key not in _programs:
            _programs[program_key] = _uploaded(_programs_for(numbers), device)
        if table.shape not in _spare and device.type == "cuda":
            _spare[table.shape] = torch.empty(table.shape, dtype=torch.int64, pin_memory=True)
        placed = Placed(_uploaded(table, device), _programs[program_key], _alignment(table))
        _tables[key] = table, placed
        return placed


def _placed_in_graph(table: np.ndarray, device: torch.device) -> Placed | None:
    numbers = table[:, -1].tobytes()
    programs = next((p for (d, _, n), p in _programs.items() if (d, n) == (device, numbers)), None)
    memory = _spare.pop(table.shape, None)
    if programs is None or memory is None:
        return None
    memory.copy_(torch.from_numpy(table))
    placed = Placed(memory.to(device, non_blocking=True), programs, _alignment(table))
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
    return 4 if np.any(table[:, :-1] % _ALIGNED) else _ALIGNED


def run(body: Loop, placed: Placed, scalars: Sequence[torch.Tensor | float]) -> None:
    """Run a loop on rows of tensors."""
    device = placed.table.device
    if not len(placed.programs):
        return
    with _on(device):
        triton_kernels.loop_kernel(body)[(len(placed.programs),)](
            placed.table,
            placed.programs,
            _vector(scalars, device),
            ALIGNMENT=placed.alignment,
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )


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
    return torch.stack([on_device(x, device) for x in scalars])


def on_device(value: Any, device: torch.device) -> torch.Tensor:
    """A scalar in float64, without waiting where it is a number or there already."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, torch.float64, non_blocking=True)
    return torch.full((), float(value), dtype=torch.float64, device=device)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """A scope in which kernels run on ``device``."""
    if device.type != "cuda" or torch.cuda.current_device() == device.index:
        return nullcontext()
    return torch.cuda.device(device)


# Whether there is a step.

_condition: ContextVar[torch.Tensor | None] = ContextVar("condition", default=None)


def condition() -> torch.Tensor | None:
    """1 if the present step is to be made and 0 if not, in the device's memory; None: it is."""
    return _condition.get()


@contextmanager
def where(holds: torch.Tensor) -> Iterator[None]:
    """Make steps only where a condition holds, which is not read."""
    outer = _condition.get()
    both = holds.to(torch.float64)
    token = _condition.set(both if outer is None else both * outer)
    try:
        yield
    finally:
        _condition.reset(token)


# Scalars.


class Trace:
    """The scalars of a step while they are computed with symbols instead of numbers.

    Attributes:
        sources: The variables and tensors that are read.
    """

    def __init__(self, device: torch.device) -> None:
        self.sources: list[Any] = []
        self._device = device
        self._builder = LoopBuilder("float64", TRITON)
        self._inputs: list[tuple[int, int]] = []
        self._state: dict[int, str] = {}

    def symbols(self, value: Any) -> Any:
        """The symbol of a scalar, or a list of those of a vector."""
        if not isinstance(value, keras.Variable):
            value = on_device(value, self._device)
        position = self._position(value)
        found = []
        for place in range(value.shape[0] if len(value.shape) else 1):
            found.append(self._builder.scalar(f"i{len(self._inputs)}"))
            self._inputs.append((position, place))
        return found if len(value.shape) else found[0]

    def assign(self, variable: Any, value: Any) -> None:
        """Give a variable of one number a new value."""
        self._state[self._position(variable)] = self._builder.symbol(value).name

    def _position(self, value: Any) -> int:
        for position, source in enumerate(self.sources):
            if source is value:
                return position
        self.sources.append(value)
        return len(self.sources) - 1

    def program(self, scalars: StepScalars, *, conditional: bool) -> Program:
        """What computes these scalars."""
        given = [name for name, x in scalars._asdict().items() if x is not None]
        symbols = [self._builder.symbol(getattr(scalars, name)) for name in given]
        kernel = triton_kernels.scalars_kernel(
            tuple(self._inputs),
            tuple(self._builder.before_loop),
            tuple(symbol.name for symbol in symbols),
            tuple(self._state.items()),
            conditional=conditional,
        )
        return Program(kernel, self.sources, given)


class Program(NamedTuple):
    """Scalars as a kernel.

    Attributes:
        kernel: See `triton_kernels.scalars_kernel`.
        sources: What it reads.
        fields: Which of the `StepScalars` it computes; the others are None.
    """

    kernel: Any
    sources: list[Any]
    fields: list[str]

    def run(self, device: torch.device) -> StepScalars:
        """Compute the scalars, and advance what advances with them."""
        results = torch.empty(len(self.fields), dtype=torch.float64, device=device)
        holds = condition()
        arguments = [*map(held_tensor, self.sources), *([] if holds is None else [holds]), results]
        with _on(device):
            self.kernel[(1,)](*arguments, num_warps=1, enable_fp_fusion=False)
        numbers = dict(zip(self.fields, results.unbind(), strict=True))
        return StepScalars(**{"gradient_weight": None, **numbers})


_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


def trace() -> Trace | None:
    """The trace that takes scalars at present."""
    return _trace.get()


def step_scalars(
    programs: dict[Any, Any], device: torch.device, compute: Callable[[], StepScalars]
) -> StepScalars:
    """The scalars of a step in the memory of ``device``.

    Args:
        programs: Where what computes them is kept until something changes that it holds fixed.
        device: The device.
        compute: Computes them, by whatever the engine takes for numbers.
    """
    conditional = condition() is not None
    program = programs.get(("scalars", conditional))
    if program is None:
        new = Trace(device)
        token = _trace.set(new)
        try:
            scalars = compute()
        finally:
            _trace.reset(token)
        if not any(isinstance(x, Symbol) for x in scalars):  # they had been computed before
            return scalars
        program = new.program(scalars, conditional=conditional)
        if all(isinstance(source, keras.Variable) for source in new.sources):
            programs["scalars", conditional] = program
    return program.run(device)
