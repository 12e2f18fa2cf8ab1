"""The rule on JAX: XLA fuses it into one pass; an eager step is compiled once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax.experimental.multihost_utils import process_allgather
from jax.experimental.sparse import JAXSparse

from surefoot.engines import differentiation, failures, loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.jax import fit, layouts, loop_runner, steps, tracing
from surefoot.rule.update import Array, Moments, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision, value_of

SPARSE_GRADIENTS = False
SHARDS_STATE = True

step_path = loop_runner.step_path


def cast(value: Array, dtype: Any) -> Array:
    """A value in another dtype."""
    return jnp.asarray(value).astype(dtype)


def scalar_dtype() -> str:
    """float64 if JAX has it switched on, else float32."""
    return "float64" if jax.config.jax_enable_x64 else "float32"


def counter_dtype() -> str:
    """int64 if JAX has it switched on, else int32."""
    return "int64" if jax.config.jax_enable_x64 else "int32"


def scalar_namespace(hyperparameters: Any) -> Any:
    """jax.numpy: scalars are computed on the device, inside the compiled step."""
    del hyperparameters
    return jnp


def scalar(value: Any) -> Array:
    """``value`` as a JAX scalar (or vector) of the scalar dtype."""
    if isinstance(value, keras.Variable):
        value = value.value
    return jnp.asarray(value).astype(scalar_dtype())


def colocated(reference: Any) -> AbstractContextManager[Any]:
    """Nothing to do: layouts are passed on explicitly."""
    del reference
    return contextlib.nullcontext()


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable, which never changes."""
    return tuple(variable.shape)


def outside_of_traces() -> AbstractContextManager[Any]:
    """Computed at once, and not by what is being traced."""
    scope: AbstractContextManager[Any] = jax.ensure_compile_time_eval()
    return scope


def as_tensors(gradients: Iterable[Any]) -> list[Any]:
    """Gradients given as arrays of any kind, or lists."""
    return [
        g if g is None or isinstance(g, jax.Array | JAXSparse) else jnp.asarray(g)
        for g in gradients
    ]


def widen(gradients: list[Any]) -> list[Any]:
    """Gradients in at least float32, and dense."""
    return [None if g is None else _widened(g) for g in gradients]


def _widened(gradient: Any) -> Array:
    if isinstance(gradient, JAXSparse):
        gradient = gradient.todense()
    return gradient.astype("float32") if gradient.dtype.itemsize < 4 else gradient


def clip(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    keras_clip: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """Clip as Keras does."""
    if optimizer.clipvalue is not None and optimizer.clips_in_update():
        return gradients  # `update` clips them, in its pass over memory
    return keras_clip(gradients)


def update(
    optimizer: RuleOptimizer,
    scalars: Callable[[], StepScalars],
    tracked: list[Tracked],
    gradients: list[Any],
) -> None:
    """Clip the gradients by value; apply the rule to every variable, in loops of ours or XLA's."""
    bound = optimizer.clipvalue
    traced = scalars()
    done = loops.update(loop_runner, loops.groups_of(tracked), traced, gradients, bound)
    for index, (entry, gradient) in enumerate(zip(tracked, gradients, strict=True)):
        if index not in done:
            clipped = gradient if bound is None else jnp.clip(gradient, -bound, bound)
            update_variable(optimizer, traced, entry, clipped)


def update_variable(
    optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
) -> None:
    """Apply the rule to one variable."""
    state = _read(tracked)
    # Where the moments are split further than their variable, so is the work.
    state = state._replace(parameter=layouts.placed(state.parameter, tracked.m))
    gradient = layouts.placed(gradient, tracked.m)
    dtype = state.moments.m.dtype
    scalars = plain.scalars_of_variable(jnp, scalars, tracked)
    new = plain.stepped(
        jnp,
        cast,
        state,
        gradient,
        plain.cast_scalars(scalars, lambda x: cast(x, dtype)),
        _stochastic(optimizer, tracked) if optimizer.low_precision == "stochastic" else None,
    )
    variables = [tracked.variable, *tracked.moments, tracked.master]
    values = [new.parameter, *new.moments, new.master]
    for variable, value in zip(variables, values, strict=True):
        if variable is not None:
            variable.assign(layouts.placed(value, variable))


_BITS = plain.BitCasts(
    lambda x: jax.lax.bitcast_convert_type(x, jnp.int16),
    jax.lax.bitcast_convert_type,
)


def _stochastic(optimizer: RuleOptimizer, tracked: Tracked) -> plain.Cast | None:
    """Random rounding whose randomness is a function of seed, step and variable."""
    if not is_low_precision(tracked.variable):
        return None
    key = jax.random.fold_in(jax.random.key(optimizer.seed), value_of(optimizer.iterations))
    uniform = jax.random.uniform(
        jax.random.fold_in(key, tracked.index), tracked.variable.shape, "float32"
    )
    return lambda exact, dtype: plain.stochastically_rounded(
        jnp, cast, _BITS, exact, dtype, uniform
    )


def _read(tracked: Tracked) -> plain.VariableState:
    return plain.VariableState(
        tracked.variable.value,
        Moments(*(None if s is None else s.value for s in tracked.moments)),
        None if tracked.master is None else tracked.master.value,
    )


def assign_where(
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
    scalars: Sequence[Array],
) -> None:
    """In loops of ours that may do nothing, or else select.

    A loop of XLA's or a conditional would copy what goes in and out. So would selections that read
    each other's old values: barriers keep them apart, and each writes in place.
    """
    for targets, sources in loops.assign_where(loop_runner, condition, assignments, value, scalars):
        given = [cast(s, accumulator_dtype(targets[0])) for s in scalars]
        new = value(jnp, exact_value, given, *(None if v is None else v.value for v in sources))
        for target in targets:
            chosen = jnp.where(condition, cast(new, target.dtype), target.value)
            new = jax.lax.optimization_barrier(chosen)
            target.assign(new)


def hand_back(trainer: Any) -> None:
    """Give the trainer the state that its ``fit`` holds; before it ends it puts that back."""
    tracing.hand_back(trainer)


def native_variable(variable: Any) -> Any:
    """The variable itself."""
    return variable


run_step = steps.run_step
slot_layout = layouts.slot_layout
state_scope = fit.state_scope
reattach = fit.reattach


def apply_result(optimizer: Any) -> Any:
    """The counter."""
    return optimizer.iterations


def gradients(
    loss: Callable[[], Any], var_list: Any, grad_loss: Any
) -> tuple[list[Any], list[Any]]:
    """Differentiate ``loss`` as a function of the variables' values."""
    if callable(var_list):
        loss()  # creates the variables
    variables = differentiation.listed_variables(var_list)

    def value_of(values: list[Array]) -> Array:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return jnp.asarray(loss())

    value, pullback = jax.vjp(value_of, [v.value for v in variables])
    seed = jnp.ones_like(value) if grad_loss is None else jnp.asarray(grad_loss, value.dtype)
    (found,) = pullback(seed)
    return list(found), variables


def symbolic_gradients(loss: Any, params: list[Any]) -> list[Any]:
    """JAX differentiates functions, not tensors."""
    del params
    raise RuntimeError(
        "`get_gradients` and `get_updates` need the graph behind a loss tensor, which JAX does "
        "not keep. Use `optimizer.minimize(loss_function, variables)`, or `jax.grad` and "
        f"`apply_gradients`. Received: loss={loss!r}"
    )


def exact_value(value: Array, master: Array | None) -> Array:
    """A variable's value in its accumulators' dtype, taken from ``master`` if valid."""
    return plain.exact_parameter(jnp, cast, value, master, accumulator_dtype(value))


def gathered(value: Array) -> Array:
    """Gathered, if other processes hold parts of it."""
    if isinstance(value, jax.Array) and not (
        value.is_fully_addressable or value.is_fully_replicated
    ):
        return process_allgather(value, tiled=True)
    return value


def initialize_as_copy(slot: Any, variable: Any) -> None:
    """Let a new slot start at the value of ``variable``, once."""
    slot.assign(jnp.copy(cast(variable.value, slot.dtype)))  # a shared buffer cannot be donated


def finite(gradients: list[Any]) -> Array:
    """For each gradient, whether all of it is finite."""
    return jnp.stack([jnp.all(jnp.isfinite(_widened(jnp.asarray(g)))) for g in gradients])


def all_true(flags: Array) -> Array:
    """Whether all of ``flags`` hold."""
    return jnp.all(flags)


def global_norm(tensors: list[Any]) -> Array:
    """The Euclidean norm of all elements together, in float32."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(cast(t, "float32"))) for t in tensors))


def snapshot(variables: list[Any]) -> list[Array]:
    """Their values: arrays do not change."""
    return widen([value_of(v) for v in variables])


def distance(before: list[Array], variables: list[Any]) -> Array:
    """How far ``variables`` are from a `snapshot`, in float32."""
    pairs = zip(snapshot(variables), before, strict=True)
    return global_norm([now - then for now, then in pairs])


def as_int32(flag: Array) -> Array:
    """A boolean as 0 or 1."""
    return flag.astype("int32")


def run_where(condition: Array, action: Callable[[], None], state: list[Any]) -> None:
    """Trace ``action`` into one branch of a conditional over the whole state."""

    def taken(values: list[Array]) -> list[Array]:
        with keras.StatelessScope(list(zip(state, values, strict=True))) as scope:
            action()
        return [scope.get_current_value(v) for v in state]

    new_values = jax.lax.cond(condition, taken, lambda values: values, [v.value for v in state])
    for variable, value in zip(state, new_values, strict=True):
        variable.assign(value)


def report_nonfinite(finite: Array, names: list[str], optimizer_name: str) -> Array:
    """Raise at once where the flags are known, else from a callback of the step."""

    def report(flags: Any) -> None:
        failures.raise_nonfinite(flags, names, optimizer_name)

    if isinstance(finite, jax.core.Tracer):
        jax.debug.callback(report, finite)
    else:
        report(finite.tolist())
    return finite
