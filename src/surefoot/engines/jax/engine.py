"""The rule on JAX: XLA fuses it into one pass; an eager step is compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax.experimental.multihost_utils import process_allgather
from jax.experimental.sparse import JAXSparse

from surefoot.engines import assignment_loops, differentiation, failures, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.engine import Engine
from surefoot.engines.jax import arrays, fit, layouts, loop_runner, steps, tracing
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import value_of


class JaxEngine(Engine):
    """JAX; `Engine` says what each method does."""

    SHARDS_STATE = True
    loop_runner = loop_runner
    arrays = arrays
    bits = plain.BitCasts(
        lambda x: jax.lax.bitcast_convert_type(x, jnp.int16),
        jax.lax.bitcast_convert_type,
    )

    # Numbers and where they are.

    def scalar_dtype(self) -> str:
        """float64 if JAX has it switched on, else float32."""
        return "float64" if jax.config.jax_enable_x64 else "float32"

    def counter_dtype(self) -> str:
        """int64 if JAX has it switched on, else int32."""
        return "int64" if jax.config.jax_enable_x64 else "int32"

    def scalar_namespace(self, hyperparameters: Any) -> Any:
        del hyperparameters
        return jnp

    def scalar(self, value: Any) -> Array:
        return self.cast(value_of(value), self.scalar_dtype())

    def cast(self, value: Array, dtype: Any) -> Array:
        return jnp.asarray(value).astype(dtype)

    # Variables.

    def slot_layout(self, reference: Any, shard: bool) -> Any:
        return layouts.slot_layout(reference, shard)

    def outside_of_traces(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = jax.ensure_compile_time_eval()
        return scope

    def state_scope(self, optimizer: Any) -> AbstractContextManager[bool]:
        return fit.state_scope(optimizer)

    def reattach(self, variable: Any) -> None:
        fit.reattach(variable)

    def hand_back(self, trainer: Any) -> None:
        """Give the trainer the state that its ``fit`` holds; before it ends it puts that back."""
        tracing.hand_back(trainer)

    def initialize_as_copy(self, slot: Any, variable: Any) -> None:
        """In memory of its own, since a shared buffer cannot be donated."""
        slot.assign(jnp.copy(self.cast(variable.value, slot.dtype)))

    def assign(self, variable: Any, value: Array) -> None:
        variable.assign(layouts.placed(value, variable))

    def gathered(self, value: Array) -> Array:
        if isinstance(value, jax.Array) and not (
            value.is_fully_addressable or value.is_fully_replicated
        ):
            return process_allgather(value, tiled=True)
        return value

    # Gradients.

    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
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

    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        """JAX differentiates functions, not tensors."""
        del params
        raise RuntimeError(
            "`get_gradients` and `get_updates` need the graph behind a loss tensor, which JAX does "
            "not keep. Use `optimizer.minimize(loss_function, variables)`, or `jax.grad` and "
            f"`apply_gradients`. Received: loss={loss!r}"
        )

    def as_tensor(self, gradient: Any) -> Any:
        # To ask for an array of what is one takes ten microseconds.
        return gradient if isinstance(gradient, jax.Array | JAXSparse) else jnp.asarray(gradient)

    def upcast_one(self, gradient: Any) -> Any:
        """Dense."""
        gradient = self.as_tensor(gradient)
        if isinstance(gradient, JAXSparse):
            gradient = gradient.todense()
        return gradient.astype("float32") if gradient.dtype.itemsize < 4 else gradient

    def is_dense(self, gradient: Any) -> bool:
        return isinstance(gradient, jax.Array)

    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
        """Raise at once where the flags are known, else from a callback of the step."""

        def report(flags: Any) -> None:
            failures.raise_nonfinite(flags, names, optimizer_name)

        if isinstance(finite, jax.core.Tracer):
            jax.debug.callback(report, finite)
        else:
            report(finite.tolist())
        return finite

    def global_norm(self, tensors: list[Any]) -> Array:
        return jnp.sqrt(sum(jnp.sum(jnp.square(self.cast(t, "float32"))) for t in tensors))

    # The step.

    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        steps.run_step(optimizer, gradients, variables)

    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        # Where the moments are split further than their variable, so is the work.
        super().update_variable(
            optimizer, scalars, tracked, layouts.placed(gradient, tracked.full_slot)
        )

    def read_state(
        self, tracked: Tracked, read: Callable[[Any], Array] | None = None
    ) -> plain.VariableState:
        state = super().read_state(tracked, read)
        return state._replace(parameter=layouts.placed(state.parameter, tracked.full_slot))

    def assign_where(
        self,
        condition: Array,
        assignments: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        """In loops of ours that may do nothing, or else select.

        A loop of XLA's or a conditional would copy what goes in and out. So would selections that
        read each other's old values: barriers keep them apart, and each writes in place.
        """
        rest = assignment_loops.assign_where(loop_runner, condition, assignments, value, scalars)
        for assignment in rest:
            exact = self.assigned_value(assignment, value, scalars)
            for place, target in enumerate(assignment.targets):
                new = self.target_value(assignment, place, exact, scalars)
                new = jax.lax.optimization_barrier(jnp.where(condition, new, target.value))
                exact = new if new.dtype == exact.dtype else exact
                target.assign(new)

    def run_where(
        self, condition: Array, action: Callable[[], None], state: list[Any], *, only_rule: bool
    ) -> None:
        """Trace ``action`` into one branch of a conditional over the whole state."""
        del only_rule

        def taken(values: list[Array]) -> list[Array]:
            with keras.StatelessScope(list(zip(state, values, strict=True))) as scope:
                action()
            return [scope.get_current_value(v) for v in state]

        new_values = jax.lax.cond(condition, taken, lambda values: values, [v.value for v in state])
        for variable, value in zip(state, new_values, strict=True):
            variable.assign(value)
