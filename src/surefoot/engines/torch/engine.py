"""The rule on PyTorch, in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import torch

from surefoot.engines import differentiation, failures, loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.torch import fused_kernels, loop_runner
from surefoot.engines.torch.memory import held_tensor, require_memory
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision, value_of

SPARSE_GRADIENTS = False
SHARDS_STATE = False

step_path = loop_runner.step_path


def scalar_dtype() -> str:
    """float64, except on Apple's GPUs, which have none."""
    return "float32" if str(keras.ops.zeros(()).device).startswith("mps") else "float64"


def counter_dtype() -> str:
    """int64."""
    return "int64"


def scalar_namespace(hyperparameters: Any) -> Any:
    """NumPy where the state is in host memory; else keras.ops, to read nothing back."""
    return np if value_of(hyperparameters).device.type == "cpu" else keras.ops


def scalar(value: Any) -> Array:
    """``value`` in the scalar dtype: a NumPy scalar or vector if in host memory."""
    value = value_of(value)
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            return value.detach().to(getattr(torch, scalar_dtype()))
        value = value.detach().numpy()
    value = np.asarray(value, dtype="float64")
    return value if value.ndim else np.float64(value)


def colocated(reference: Any) -> AbstractContextManager[Any]:
    """The device of ``reference``."""
    del reference
    return contextlib.nullcontext()


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable, which never changes."""
    return tuple(variable.shape)


def outside_of_traces() -> AbstractContextManager[Any]:
    """Nothing to do: nothing is traced."""
    return contextlib.nullcontext()


def slot_layout(reference: Any, shard: bool) -> Any:
    """Keras has no layouts on this backend."""
    del reference, shard


def as_tensors(gradients: Iterable[Any]) -> list[Any]:
    """Gradients given as tensors, arrays or lists."""
    return [
        g if g is None or isinstance(g, torch.Tensor) else torch.as_tensor(g) for g in gradients
    ]


def widen(gradients: list[Any]) -> list[Any]:
    """Gradients in at least float32, dense, and as they are in memory."""
    return [None if g is None else _widened(g) for g in gradients]


def _widened(gradient: Any) -> torch.Tensor:
    if not isinstance(gradient, torch.Tensor):
        gradient = torch.as_tensor(gradient)
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    if gradient.dtype.itemsize < 4:
        gradient = gradient.float()
    # Autograd hands on negations that are yet to be made, and zeros that are nowhere.
    if not gradient.is_contiguous() or gradient.is_neg() or gradient._is_zerotensor():
        return gradient.resolve_neg().clone(memory_format=torch.contiguous_format)
    return gradient


@torch.no_grad()
def clip(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    keras_clip: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """Clip as Keras does, whose bounds are rounded to float32 on PyTorch."""
    del keras_clip
    given = [g for g in gradients if g is not None]
    if optimizer.clipvalue is not None:
        if optimizer.clips_in_update():
            return gradients  # `update` clips them, in its pass over memory
        return [None if g is None else _clamped(g, optimizer.clipvalue) for g in gradients]
    if optimizer.clipnorm is not None:
        bound = optimizer.clipnorm
        return [None if g is None else g * _factor(g.norm(), bound) for g in gradients]
    if optimizer.global_clipnorm is not None and given:
        norm = torch.stack([g.norm() for g in given]).norm()
        factor = _factor(norm, optimizer.global_clipnorm)
        return [None if g is None else g * factor for g in gradients]
    return gradients


def _clamped(gradient: torch.Tensor, bound: float | None) -> torch.Tensor:
    return gradient if bound is None else gradient.clamp(-bound, bound)


def _factor(norm: torch.Tensor, bound: float) -> torch.Tensor:
    return bound / norm.clamp(min=bound)


# What `torch.compile` traces would have to be operations of PyTorch all through: here it stops
# tracing, runs the step as it is, and goes on behind it.
@torch.compiler.disable
@torch.no_grad()
def run_step(optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
    """Run the update where it stands: PyTorch executes eagerly."""
    with optimizer.step_lock:
        optimizer.inline_apply(gradients, variables)


@torch.no_grad()
def update(
    optimizer: RuleOptimizer,
    scalars: Callable[[], StepScalars],
    tracked: list[Tracked],
    gradients: list[Any],
) -> None:
    """Clip the gradients by value; apply the rule to every variable."""
    bound = optimizer.clipvalue
    numbers = _host_numbers(scalars())
    if plain.is_stateless():
        done: set[int] = set()
    else:
        groups = _groups(optimizer, tracked)
        grouped = set().union(*(group.indices for group in groups))
        for index, entry in enumerate(tracked):
            if index not in grouped:  # `loops` looks at the others
                slots = [v for v in (entry.master, *entry.moments) if v is not None]
                state = map(held_tensor, (entry.variable, *slots))
                require_memory([*state, gradients[index]])
        on_host = all(isinstance(x, float | bool | None) for x in numbers)
        done = loops.update(loop_runner, groups, numbers, gradients, bound) if on_host else set()
        if on_host and len(done) < len(tracked):
            done |= fused_kernels.update(groups, numbers, gradients, bound, done)
    for index, (entry, gradient) in enumerate(zip(tracked, gradients, strict=True)):
        if index not in done:
            update_variable(optimizer, numbers, entry, _clamped(gradient, bound))


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


@torch.no_grad()
def update_variable(
    optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
) -> None:
    """Apply the rule to one variable."""
    scalars = _host_numbers(scalars)
    if not tracked.decays:
        scalars = scalars._replace(shrink=0.0)
    state = _read(tracked)
    dtype = state.moments.m.dtype
    new = plain.stepped(
        torch,
        _cast,
        state,
        torch.as_tensor(gradient).detach(),
        plain.cast_scalars(scalars, lambda x: x if isinstance(x, float) else _cast(x, dtype)),
        _stochastic(optimizer, tracked) if optimizer.low_precision == "stochastic" else None,
    )
    _assign(tracked.variable, new.parameter)
    for slot, value in zip(tracked.moments, new.moments, strict=True):
        if slot is not None:
            slot.assign(value)
    if tracked.master is not None:
        tracked.master.assign(new.master)


def _assign(variable: Any, value: torch.Tensor) -> None:
    if isinstance(variable, keras.Variable):
        variable.assign(value)
    else:
        variable.copy_(value)


def _cast(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype)


_BITS = plain.BitCasts(
    lambda x: x.view(torch.int16),
    lambda x, dtype: x.to(torch.int16).view(dtype),
)


def _stochastic(optimizer: RuleOptimizer, tracked: Tracked) -> plain.Cast | None:
    """Random rounding whose randomness is a function of seed, step and variable."""
    if not is_low_precision(tracked.variable):
        return None
    step = int(scalar(optimizer.iterations))
    generator = torch.Generator().manual_seed(hash((optimizer.seed, step, tracked.index)) % 2**63)
    target = value_of(tracked.variable)
    uniform = torch.rand(target.shape, generator=generator).to(target.device)
    return lambda exact, dtype: plain.stochastically_rounded(
        torch, _cast, _BITS, exact, dtype, uniform
    )


def _read(tracked: Tracked) -> plain.VariableState:
    return plain.VariableState(
        value_of(tracked.variable).detach(),
        Moments(*(None if s is None else s.value.detach() for s in tracked.moments)),
        None if tracked.master is None else tracked.master.value.detach(),
    )


@torch.no_grad()
def assign_where(
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
    scalars: Sequence[Array],
) -> None:
    """Decide on the host where the state is; else compute and select, to read nothing back."""
    on_host = not isinstance(condition, torch.Tensor) or condition.device.type == "cpu"
    if on_host and not condition:
        return
    in_place = not plain.is_stateless()
    if on_host and in_place:
        assignments = loops.assign_where(loop_runner, condition, assignments, value, scalars)
    for targets, sources in assignments:
        held = [None if v is None else value_of(v).detach() for v in sources]
        dtype = getattr(torch, accumulator_dtype(targets[0]))
        given = [s.item() if isinstance(s, np.generic) else _cast(s, dtype) for s in scalars]
        new = value(torch, exact_value, given, *held)
        for target in targets:
            old = value_of(target)
            new = _cast(new, old.dtype)
            _assign(target, new if on_host else torch.where(condition, new, old))


def hand_back(trainer: Any) -> None:
    """Nothing to do: variables hold their values all the time."""
    del trainer


def native_variable(variable: Any) -> Any:
    """The variable itself."""
    return variable


def state_scope(optimizer: Any) -> AbstractContextManager[bool]:
    """Variables hold their values all the time."""
    del optimizer
    return contextlib.nullcontext(False)


def reattach(variable: Any) -> None:
    """Nothing to do: variables hold their values all the time."""
    del variable


def apply_result(optimizer: Any) -> Any:
    """The counter."""
    return optimizer.iterations


def gradients(
    loss: Callable[[], Any], var_list: Any, grad_loss: Any
) -> tuple[list[Any], list[Any]]:
    """Differentiate ``loss`` by autograd."""
    value = loss()
    variables = differentiation.listed_variables(var_list, (torch.nn.Parameter,))
    if grad_loss is None:
        grad_loss = torch.ones_like(value)
    found = torch.autograd.grad(
        value, [value_of(v) for v in variables], torch.as_tensor(grad_loss), allow_unused=True
    )
    return list(found), variables


def symbolic_gradients(loss: Any, params: list[Any]) -> list[Any]:
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


@torch.no_grad()
def exact_value(value: Array, master: Array | None) -> Array:
    """A variable's value in its accumulators' dtype, taken from ``master`` if valid."""
    dtype = getattr(torch, accumulator_dtype(value))
    return plain.exact_parameter(torch, _cast, value, master, dtype)


def gathered(value: Array) -> Array:
    """The value itself: every worker has all of it."""
    return value


@torch.no_grad()
def initialize_as_copy(slot: Any, variable: Any) -> None:
    """Let a new slot start at the value of ``variable``, once."""
    slot.assign(value_of(variable).detach())


def finite(gradients: list[Any]) -> Array:
    """For each gradient, whether all of it is finite."""
    return torch.stack([torch.isfinite(_widened(g)).all() for g in gradients])


def all_true(flags: Array) -> Array:
    """Whether all of ``flags`` hold."""
    return flags.all()


@torch.no_grad()
def global_norm(tensors: list[Any]) -> Array:
    """The Euclidean norm of all elements together, in float32."""
    dense = [torch.as_tensor(t).detach() for t in tensors]
    dense = [t.to_dense() if t.is_sparse else t for t in dense]
    return torch.stack(torch._foreach_norm([t.float() for t in dense])).norm()


@torch.no_grad()
def snapshot(variables: list[Any]) -> list[Array]:
    """Copies of their values, since a step writes into them."""
    values = [value_of(v).detach() for v in variables]
    return [v.float() if v.element_size() < 4 else v.clone() for v in values]


@torch.no_grad()
def distance(before: list[Array], variables: list[Any]) -> Array:
    """How far ``variables`` are from a `snapshot`, in float32; in the memory of that."""
    torch._foreach_sub_(before, [value_of(v).detach() for v in variables])
    return global_norm(before)


def as_int32(flag: Array) -> Array:
    """A boolean as 0 or 1."""
    return flag.int()


def run_where(condition: Array, action: Callable[[], None], state: list[Any]) -> None:
    """Decide on the host: eager code has no other way, and the user asked for the check."""
    del state
    if condition:
        action()


def report_nonfinite(finite: Array, names: list[str], optimizer_name: str) -> Array:
    """Raise at once."""
    failures.raise_nonfinite(finite.tolist(), names, optimizer_name)
    return finite
