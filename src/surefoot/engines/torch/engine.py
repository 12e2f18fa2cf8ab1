"""The rule on PyTorch, in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import torch

from surefoot.engines import assignment_loops, loops, plain
from surefoot.engines.compiler import symbols
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.engine import Engine
from surefoot.engines.torch import (
    arrays,
    device_scalars,
    fused_kernels,
    gpu,
    gpu_scalars,
    loop_runner,
    packs,
    repeated_steps,
)
from surefoot.engines.torch.counter import Counter
from surefoot.engines.torch.gradients import TorchGradients
from surefoot.engines.torch.launches import note_other_work
from surefoot.engines.torch.memory import held_tensor, held_tensors, is_in_memory, require_memory
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, value_of


class TorchEngine(TorchGradients, Engine):
    """PyTorch; `Engine` says what each method does."""

    COUNTER = Counter

    loop_runner = loop_runner
    arrays = arrays
    bits = plain.BitCasts(
        lambda x: x.view(torch.int16),
        lambda x, dtype: x.to(torch.int16).view(dtype),
    )

    # Numbers and where they are.

    def scalar_dtype(self) -> str:
        """float64, except on Apple's GPUs, which have none."""
        return "float32" if str(keras.ops.zeros(()).device).startswith("mps") else "float64"

    def scalar_namespace(self, hyperparameters: Any) -> Any:
        """NumPy where the state is in host memory; else what reads and copies nothing."""
        if gpu_scalars.trace() is not None:
            return symbols
        return np if held_tensor(hyperparameters).device.type == "cpu" else device_scalars

    def scalar(self, value: Any) -> Array:
        """A NumPy scalar or vector if in host memory; a vector elsewhere as its numbers."""
        trace = gpu_scalars.trace()
        if trace is not None:
            return trace.symbols(value)
        value = value_of(value)
        if isinstance(value, torch.Tensor):
            if value.device.type != "cpu":
                found = value.detach().to(getattr(torch, self.scalar_dtype()))
                return found.unbind() if found.ndim else found
            value = value.detach().numpy()
        value = np.asarray(value, dtype="float64")
        return value if value.ndim else np.float64(value)

    @torch.no_grad()
    def assign_scalar(self, variable: Any, value: Array) -> None:
        trace, holds = gpu_scalars.trace(), gpu.condition()
        if trace is not None:
            trace.assign(variable, value)
            return
        note_other_work()
        if holds is not None:
            old = held_tensor(variable)
            value = torch.where(holds != 0.0, value, old)
        variable.assign(value)

    def cast(self, value: Array, dtype: Any) -> Array:
        """Numbers on the host stay numbers, which take the dtype of what they meet."""
        if not isinstance(value, torch.Tensor):
            return float(value)
        return value.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)

    def whole_number(self, value: Any) -> Array:
        """An int on the host; in kernels float64, in which all counts up to 2^53 are exact."""
        if gpu_scalars.trace() is not None:
            return self.scalar(value)
        value = value_of(value)
        on_device = isinstance(value, torch.Tensor) and value.device.type != "cpu"
        return value.to(torch.int64) if on_device else int(value)

    def numbers(
        self, optimizer: SteppedOptimizer, name: str, compute: Callable[[], Sequence[Array]]
    ) -> Sequence[Array]:
        """By one kernel, if the counter is on a GPU."""
        counter = held_tensor(optimizer._iterations)
        by_kernel = (
            gpu.is_gpu(counter.device)
            and is_in_memory(counter)
            and not plain.is_stateless()
            and gpu.obstacle(counter.device) is None
        )
        if by_kernel:
            return gpu_scalars.numbers(optimizer.eager_steps, name, counter.device, compute)
        note_other_work()
        return compute()

    def numbers_at(self, variable: Any) -> AbstractContextManager[Any]:
        at_host = held_tensor(variable).device.type == "cpu"
        return nullcontext() if at_host else device_scalars.NumbersOnDevice()

    # Variables.

    def read(self, variable: Any) -> Array:
        return value_of(variable).detach()

    def colocated(self, reference: Any) -> AbstractContextManager[Any]:
        return keras.device(str(held_tensor(reference).device))

    @torch.no_grad()
    def assign(self, variable: Any, value: Array) -> None:
        note_other_work()
        if isinstance(variable, keras.Variable):
            variable.assign(value)
        else:
            variable.copy_(value)

    @torch.no_grad()
    def initialize_as_copy(self, slot: Any, variable: Any) -> None:
        super().initialize_as_copy(slot, variable)

    # The step.

    # What `torch.compile` traces would have to be operations of PyTorch all through: here it stops
    # tracing, runs the step as it is, and goes on behind it.
    @torch.compiler.disable
    @torch.no_grad()
    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        """Run the update where it stands: PyTorch executes eagerly."""
        with optimizer.step_lock:
            step = functools.partial(optimizer.inline_apply, gradients, variables)
            repeated_steps.run(optimizer, gradients, variables, step)

    @torch.no_grad()
    def update(
        self,
        optimizer: RuleOptimizer,
        scalars: Callable[[], StepScalars],
        tracked: list[Tracked],
        gradients: list[Any],
    ) -> None:
        numbers = _host_numbers(StepScalars(*self.numbers(optimizer, "scalars", scalars)))
        done: set[int] = set()
        if not plain.is_stateless():  # else the values are those of the caller
            groups, others = _groups(optimizer, tracked)
            for index in others:  # `loops` looks at those in groups
                state = held_tensors(_state_of(tracked[index]))
                require_memory([*state, gradients[index]])
            bound = optimizer.clipvalue
            done = loops.update(loop_runner, groups, numbers, gradients, bound, gpu.condition())
            on_host = all(isinstance(x, float | bool | None) for x in numbers)
            if on_host and len(done) < len(tracked):
                note_other_work()
                done |= fused_kernels.update(groups, numbers, gradients, bound, done)
        if len(done) < len(tracked):
            pairs = enumerate(zip(tracked, gradients, strict=True))
            self.update_plainly(optimizer, numbers, [pair for i, pair in pairs if i not in done])

    def update_plainly(
        self,
        optimizer: RuleOptimizer,
        scalars: StepScalars,
        pairs: Iterable[tuple[Tracked, Any]],
    ) -> None:
        """By operations of PyTorch; on a device, many small tensors at a time."""
        note_other_work()
        apart = optimizer.BY_NORM or optimizer.rounds_at_random
        if plain.is_stateless() or apart:
            super().update_plainly(optimizer, scalars, pairs)
            return

        def row(pair: tuple[Tracked, Any]) -> list[torch.Tensor | None]:
            entry, gradient = pair
            state = (entry.variable, *entry.moments, entry.master)
            return [*(None if v is None else held_tensor(v) for v in state), gradient.detach()]

        for pack in packs.packed(pairs, row, key_of=lambda pair: pair[0].decays):
            columns = list(zip(*map(row, pack), strict=True))
            parameter, m, v, vhat, master, gradient = (packs.gathered(column) for column in columns)
            state = plain.VariableState(parameter, Moments(m, v, vhat), master)
            gradient = self.clip_values(gradient, optimizer.clipvalue)
            new = self.stepped(optimizer, scalars, pack[0][0], state, gradient)
            for column, value in zip(columns, _flat(new), strict=False):
                packs.scatter(column, value)

    @torch.no_grad()
    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        gradient = torch.as_tensor(gradient).detach()
        super().update_variable(optimizer, _host_numbers(scalars), tracked, gradient)

    def stepped(
        self,
        optimizer: RuleOptimizer,
        scalars: StepScalars,
        tracked: Tracked,
        state: plain.VariableState,
        gradient: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> plain.VariableState:
        """Also of several variables that are like ``tracked``, if nothing is rounded at random."""
        new = super().stepped(optimizer, scalars, tracked, state, gradient, places)
        holds = gpu.condition()
        if holds is None:
            return new
        moves = _beside(holds != 0.0, gradient)
        pairs = zip(_flat(new), _flat(state), strict=True)
        parameter, *moments, master = (
            None if x is None else torch.where(moves, x, old) for x, old in pairs
        )
        return plain.VariableState(parameter, Moments(*moments), master)

    def scalars_for(self, tracked: Tracked, scalars: StepScalars) -> StepScalars:
        """Also on the device of the variable."""
        variable = held_tensor(tracked.variable)
        own = super().scalars_for(tracked, scalars)
        if isinstance(own.adaptive, torch.Tensor):
            own = own._replace(adaptive=own.adaptive != 0.0)
        return StepScalars(*(_beside(x, variable) for x in own))

    @torch.no_grad()
    def assign_where(
        self,
        condition: Array,
        assignments: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        """Decide on the host where the state is; else compute and select, to read nothing back."""
        on_host = not isinstance(condition, torch.Tensor) or gpu.is_host(condition.device)
        if on_host and not condition:
            return
        holds = gpu.condition()
        if holds is not None:
            condition = holds * condition
        rest: Iterable[list[Assignment]] = [[a] for a in assignments]
        if not plain.is_stateless():
            left = assignment_loops.assign_where(
                loop_runner, condition, assignments, value, scalars
            )
            rest = packs.packed_assignments(left)
        for pack in rest:
            self._assign_pack(condition, pack, value, scalars)

    def _assign_pack(
        self,
        condition: Array,
        pack: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        note_other_work()
        first = value_of(pack[0].targets[0])
        dtype = accumulator_dtype(first)
        scalars = [_beside(s, first) for s in scalars]
        columns = zip(*(a.sources for a in pack), strict=True)
        values = [
            packs.gathered([None if v is None else self.read(v) for v in column])
            for column in columns
        ]
        exact = self.computed(dtype, value, scalars, values)
        targets = zip(*(a.targets for a in pack), strict=True)
        for place, column in enumerate(targets):
            olds = [self.read(v) for v in column]
            new = self.target_value(pack[0], place, exact, scalars)
            if isinstance(condition, torch.Tensor):
                holds = _beside(condition != 0, first)
                new = torch.where(holds, new, packs.gathered(olds))
            if len(column) == 1:
                self.assign(column[0], new)
            else:
                packs.scatter(olds, new)

    def run_where(
        self,
        condition: Array,
        action: Callable[[], None],
        state: list[Any],
        *,
        only_rule: bool,
    ) -> None:
        """Decide on the host if the state is there, or code runs that knows no conditions."""
        del state
        if condition.device.type != "cpu" and only_rule:
            with gpu.where(condition):
                action()
        elif condition:
            action()


def _beside(value: Any, other: torch.Tensor) -> Any:
    """A scalar on the device of a tensor; what is no tensor as it is."""
    is_tensor = isinstance(value, torch.Tensor)
    return value.to(other.device, non_blocking=True) if is_tensor else value


def _state_of(entry: Tracked) -> list[Any]:
    """The variables of an entry that have its shape: NovoGrad's second moment is one number."""
    known = (entry.variable, entry.master, *entry.moments)
    return [v for v in known if v is not None and len(v.shape) == len(known[0].shape)]


def _flat(state: plain.VariableState) -> list[Any]:
    return [state.parameter, *state.moments, state.master]


def _groups(
    optimizer: RuleOptimizer, tracked: list[Tracked]
) -> tuple[list[loops.Group], list[int]]:
    """The groups of these variables, and who is in none; those of all variables are found once."""
    if tracked is optimizer.tracked_variables and "groups" in optimizer.eager_steps:
        found: tuple[list[loops.Group], list[int]] = optimizer.eager_steps["groups"]
        return found
    groups = loops.groups_of(tracked)
    grouped = set().union(*(group.indices for group in groups))
    found = groups, [i for i in range(len(tracked)) if i not in grouped]
    if tracked is optimizer.tracked_variables:
        optimizer.eager_steps["groups"] = found
    return found


def _host_numbers(scalars: StepScalars) -> StepScalars:
    # A NumPy scalar times a tensor would go through NumPy's own operators.
    return StepScalars(
        *(v.item() if isinstance(v, np.generic | np.ndarray) else v for v in scalars)
    )
