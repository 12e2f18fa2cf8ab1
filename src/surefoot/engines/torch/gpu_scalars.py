"""The scalars of a step on a CUDA device, by one kernel that the formulas themselves have written.

They run once on symbols instead of numbers (`surefoot.engines.compiler.symbols`). What they read,
which is the variables of an optimizer and the values of schedules, is an input of the kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import torch

from surefoot.engines.compiler import triton_kernels
from surefoot.engines.compiler.builders import LoopBuilder, Symbol
from surefoot.engines.compiler.triton_kernels import TRITON
from surefoot.engines.torch.gpu import condition, on, on_device
from surefoot.engines.torch.launches import launch, note_other_work
from surefoot.engines.torch.memory import held_tensors


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
        if isinstance(value, Symbol):
            return value
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

    def program(self, numbers: Sequence[Any], *, conditional: bool) -> Program:
        """What computes these numbers; None among them stays None."""
        symbols = [None if x is None else self._builder.symbol(x) for x in numbers]
        kernel = triton_kernels.scalars_kernel(
            tuple(self._inputs),
            tuple(self._builder.before_loop),
            tuple(symbol.name for symbol in symbols if symbol is not None),
            tuple(self._state.items()),
            conditional=conditional,
        )
        return Program(kernel, self.sources, [symbol is not None for symbol in symbols])


class Program(NamedTuple):
    """Numbers as a kernel.

    Attributes:
        kernel: See `triton_kernels.scalars_kernel`.
        sources: What it reads.
        computed: Which of the numbers it computes; the others are None.
    """

    kernel: Any
    sources: list[Any]
    computed: list[bool]

    def run(self, device: torch.device) -> list[Any]:
        """Compute the numbers, and advance what advances with them."""
        results = torch.empty(sum(self.computed), dtype=torch.float64, device=device)
        holds = condition()
        sources = held_tensors(self.sources)
        arguments = [*sources, *([] if holds is None else [holds]), results]
        options = {"num_warps": 1, "enable_fp_fusion": False}
        with on(device):
            launch(functools.partial(self.kernel[(1,)], *arguments, **options), sources)
        numbers = iter(results.unbind())
        return [next(numbers) if computed else None for computed in self.computed]


_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


def trace() -> Trace | None:
    """The trace that takes scalars at present."""
    return _trace.get()


def numbers(
    programs: dict[Any, Any], name: str, device: torch.device, compute: Callable[[], Sequence[Any]]
) -> Sequence[Any]:
    """What ``compute`` returns, in the memory of ``device``.

    Args:
        programs: Where what computes it is kept until something changes that it holds fixed.
        name: Under which name.
        device: The device.
        compute: Computes it, by whatever the engine takes for numbers.
    """
    conditional = condition() is not None
    program = programs.get((name, conditional))
    if program is None:
        new = Trace(device)
        token = _trace.set(new)
        try:
            found = compute()
        finally:
            _trace.reset(token)
        if not any(isinstance(x, Symbol) for x in found):  # it had been computed before
            note_other_work()
            return found
        program = new.program(found, conditional=conditional)
        if all(isinstance(source, keras.Variable) for source in new.sources):
            programs[name, conditional] = program
        else:  # a schedule gives other numbers in the next step
            note_other_work()
    return program.run(device)
