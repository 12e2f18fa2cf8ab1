"""The rule on PyTorch, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch

from surefoot.engines import differentiation, failures, loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.engine import Engine
from surefoot.engines.torch import fused_kernels, loop_runner
from surefoot.engines.torch.memory import held_tensor, require_memory
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import value_of


class TorchEngine(Engine):
    """PyTorch; `Engine` says what each method does."""

    loop_runner = loop_runner
    arrays = torch
    bits = plain.BitCasts(
        lambda x: x.view(torch.int16),
        lambda x, dtype: x.to(torch.int16).view(dtype),
    )

    # Numbers and where they are.

    def scalar_dtype(self) -> str:
        """float64, except on Apple's GPUs, which have none."""
        return "float32" if str(keras.ops.zeros(()).device).startswith("mps") else "float64"

    def scalar_namespace(self, hyperparameters: Any) -> Any:
        """NumPy where the state is in host memory; else keras.ops, to read nothing back."""
        return np if value_of(hyperparameters).device.type == "cpu" else keras.ops

    def scalar(self, value: Any) -> Array:
        """A NumPy scalar or vector if in host memory."""
        value = value_of(value)
        if isinstance(value, torch.Tensor):
            if value.device.type != "cpu":
                return value.detach().to(getattr(torch, self.scalar_dtype()))
            value = value.detach().numpy()
        value = np.asarray(value, dtype="float64")
        return value if value.ndim else np.float64(value)

    def cast(self, value: Array, dtype: Any) -> Array:
        """Numbers on the host stay numbers, which take the dtype of what they meet."""
        if not isinstance(value, torch.Tensor):
            return float(value)
        return value.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)

    # Variables.

    def read(self, variable: Any) -> Array:
        return value_of(variable).detach()

    @torch.no_grad()
    def assign(self, variable: Any, value: Array) -> None:
        if isinstance(variable, keras.Variable):
            variable.assign(value)
        else:
            variable.copy_(value)

    @torch.no_grad()
    def initialize_as_copy(self, slot: Any, variable: Any) -> None:
        super().initialize_as_copy(slot, variable)

    # Gradients.

    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
    ) -> tuple[list[Any], list[Any]]:
        value = loss()
        variables = differentiation.listed_variables(var_list, (torch.nn.Parameter,))
        if grad_loss is None:
            grad_loss = torch.ones_like(value)
        found = torch.autograd.grad(
            value, [value_of(v) for v in variables], torch.as_tensor(grad_loss), allow_unused=True
        )
        return list(found), variables

    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        """Differentiate a tensor that still has its autograd graph."""
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            raise RuntimeError(
                "`get_gradients` and `get_updates` need a loss tensor with its autograd graph. "
                "Use `optimizer.minimize(loss_function, variables)`, or `loss.backward()` and "
                f"`apply_gradients`. Received: loss={loss!r}"
            )
        found = torch.autograd.grad(
            loss,
            [value_of(p) for p in params],
            torch.ones_like(loss),
            retain_graph=True,
            allow_unused=True,
        )
        return differentiation.require_all(list(found), params)

    def as_tensor(self, gradient: Any) -> Any:
        return gradient if isinstance(gradient, torch.Tensor) else torch.as_tensor(gradient)

    def upcast_one(self, gradient: Any) -> Any:
        """Dense, and as it is in memory."""
        gradient = self.as_tensor(gradient)
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        if gradient.dtype.itemsize < 4:
            gradient = gradient.float()
        # Autograd returns tensors whose negation is pending, and zeros without memory.
        if not gradient.is_contiguous() or gradient.is_neg() or gradient._is_zerotensor():
            return gradient.resolve_neg().clone(memory_format=torch.contiguous_format)
        return gradient

    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
        """Raise at once."""
        failures.raise_nonfinite(finite.tolist(), names, optimizer_name)
        return finite

    @torch.no_grad()
    def clip(
        self,
        optimizer: SteppedOptimizer,
        gradients: list[Any],
        keras_clip: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """Clip as Keras does, whose bounds are rounded to float32 on PyTorch."""
        given = [g for g in gradients if g is not None]
        if optimizer.clipvalue is not None:
            if optimizer.clips_in_update():
                return gradients
            bound = optimizer.clipvalue
            return [None if g is None else self.clip_values(g, bound) for g in gradients]
        if optimizer.clipnorm is not None:
            bound = optimizer.clipnorm
            return [None if g is None else g * _factor(g.norm(), bound) for g in gradients]
        if optimizer.global_clipnorm is not None and given:
            norm = torch.stack([g.norm() for g in given]).norm()
            factor = _factor(norm, optimizer.global_clipnorm)
            return [None if g is None else g * factor for g in gradients]
        return gradients

    def clip_values(self, gradient: Any, bound: float | None) -> Any:
        return gradient if bound is None else gradient.clamp(-bound, bound)

    @torch.no_grad()
    def global_norm(self, tensors: list[Any]) -> Array:
        dense = [self.as_tensor(t).detach() for t in tensors]
        dense = [t.to_dense() if t.is_sparse else t for t in dense]
        return torch.stack(torch._foreach_norm([t.float() for t in dense])).norm()

    @torch.no_grad()
    def snapshot(self, variables: list[Any]) -> list[Array]:
        """Copies, since a step writes into variables."""
        values = map(self.read, variables)
        return [v.float() if v.element_size() < 4 else v.clone() for v in values]

    @torch.no_grad()
    def distance(self, before: list[Array], variables: list[Any]) -> Array:
        """In the memory of the snapshot."""
        torch._foreach_sub_(before, [self.read(v) for v in variables])
        return self.global_norm(before)

    # The step.

    # What `torch.compile` traces would have to be operations of PyTorch all through: here it stops
    # tracing, runs the step as it is, and goes on behind it.
    @torch.compiler.disable
    @torch.no_grad()
    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        """Run the update where it stands: PyTorch executes eagerly."""
        with optimizer.step_lock:
            optimizer.inline_apply(gradients, variables)

    @torch.no_grad()
    def update(
        self,
        optimizer: RuleOptimizer,
        scalars: Callable[[], StepScalars],
        tracked: list[Tracked],
        gradients: list[Any],
    ) -> None:
        numbers = _host_numbers(scalars())
        done: set[int] = set()
        if not plain.is_stateless():  # else the values are those of the caller
            groups = _groups(optimizer, tracked)
            grouped = set().union(*(group.indices for group in groups))
            for index, entry in enumerate(tracked):
                if index not in grouped:  # `loops` looks at the others
                    slots = [v for v in (entry.master, *entry.moments) if v is not None]
                    state = map(held_tensor, (entry.variable, *slots))
                    require_memory([*state, gradients[index]])
            if all(isinstance(x, float | bool | None) for x in numbers):  # on the host
                bound = optimizer.clipvalue
                done = loops.update(loop_runner, groups, numbers, gradients, bound)
                if len(done) < len(tracked):
                    done |= fused_kernels.update(groups, numbers, gradients, bound, done)
        pairs = enumerate(zip(tracked, gradients, strict=True))
        self.update_plainly(optimizer, numbers, [pair for i, pair in pairs if i not in done])

    @torch.no_grad()
    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        given = torch.as_tensor(gradient).detach()
        super().update_variable(optimizer, _host_numbers(scalars), tracked, given)

    def uniform(self, optimizer: RuleOptimizer, index: int, like: Array) -> Array:
        step = int(self.scalar(optimizer.iterations))
        generator = torch.Generator().manual_seed(hash((optimizer.seed, step, index)) % 2**63)
        return torch.rand(like.shape, generator=generator).to(like.device)

    @torch.no_grad()
    def assign_where(
        self,
        condition: Array,
        assignments: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        """Decide on the host where the state is; else compute and select, to read nothing back."""
        on_host = not isinstance(condition, torch.Tensor) or condition.device.type == "cpu"
        if on_host and not condition:
            return
        if on_host and not plain.is_stateless():
            assignments = loops.assign_where(loop_runner, condition, assignments, value, scalars)
        for assignment in assignments:
            new = self.assigned_value(assignment, value, scalars)
            for target in assignment.targets:
                old = value_of(target)
                new = self.cast(new, old.dtype)
                self.assign(target, new if on_host else torch.where(condition, new, old))

    def run_where(self, condition: Array, action: Callable[[], None], state: list[Any]) -> None:
        """Decide on the host: eager code has no other way, and the user asked for the check."""
        del state
        if condition:
            action()


def _factor(norm: torch.Tensor, bound: float) -> torch.Tensor:
    return bound / norm.clamp(min=bound)


def _groups(optimizer: RuleOptimizer, tracked: list[Tracked]) -> list[loops.Group]:
    """The groups of these variables; those of all variables are made once."""
    if tracked is not optimizer.tracked_variables:
        return loops.groups_of(tracked)
    if "groups" not in optimizer.eager_steps:
        optimizer.eager_steps["groups"] = loops.groups_of(tracked)
    groups: list[loops.Group] = optimizer.eager_steps["groups"]
    return groups


def _host_numbers(scalars: StepScalars) -> StepScalars:
    # A NumPy scalar times a tensor would go through NumPy's own operators.
    return StepScalars(
        *(v.item() if isinstance(v, np.generic | np.ndarray) else v for v in scalars)
    )
